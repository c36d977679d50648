/** What the tests on a cluster measure, in the order of the documents: what it is, and the text of a value. */
export const figureTexts = {
  podStartMs: [
    'A pod of the mesh starts: what capture adds to the making of its sandbox (median of 8)',
    (value) => `${value} ms`,
  ],
  restartedConnections: [
    'All agents are replaced, with 20 new connections a second: how many failed',
    (value) => `0 of ${value}`,
  ],
  restartLongestMs: ['The longest that one of these took until the first byte of the server', (value) => `${value} ms`],
  crashedAgentSeconds: ['An agent is killed: until the next one carries new connections', (value) => `${value} s`],
  rebootSeconds: [
    'A node boots again: from power on until a pod there is ready and is reached',
    (value) => `${value} s`,
  ],
  apiServerBackSeconds: [
    'The API server comes back after a minute: until a new rule and a new pod are in force',
    (value) => `${value} s`,
  ],
  controllerBackSeconds: [
    'The controller comes back after a minute: until a rule of that time is in force',
    (value) => `${value} s`,
  ],
  waitingPodSeconds: ['The same, until a new pod that waited is reached', (value) => `${value} s`],
  uninstallGapSeconds: [
    'Culvert is installed or uninstalled: the longest time in which no new connection of a pod succeeded',
    (value) => `${value} s`,
  ],
  agentMegabytes: ['Memory (RSS) of the agent of a node, with three pods of the mesh', (value) => `${value} MB`],
  controllerMegabytes: ['Memory (RSS) of the controller', (value) => `${value} MB`],
} as const satisfies Readonly<Record<string, readonly [title: string, text: (value: number) => string]>>;

export type FigureName = keyof typeof figureTexts;
