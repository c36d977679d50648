/**
 * Who may import what. The compiler keeps the programs apart (project references), oxlint forbids cycles; these tables are
 * the rest. A room is a folder; a path without a slash at its end is a single file.
 */

/** The three programs' folders and what each may import in addition to itself. */
export const programs: Readonly<Record<string, readonly string[]>> = {
  'shared/': [],
  'agent/': ['shared/'],
  'controller/': ['shared/'],
  'test/': ['agent/', 'controller/', 'deploy/', 'shared/'],
  'deploy/': ['agent/', 'controller/', 'shared/', 'test/'],
};

/** Packages that belong to some rooms only. Tests and the demo may import every package. */
export const packages: readonly {
  readonly names: readonly string[];
  readonly rooms: readonly string[];
  readonly why: string;
}[] = [
  { names: ['nats'], rooms: ['shared/bus/'], why: 'shared/bus is the only room that speaks to NATS' },
  {
    names: ['@peculiar/x509', 'node-forge', 'reflect-metadata'],
    rooms: ['controller/ca/x509/'],
    why: 'the controller judges requests and issues certificates; the agent must not carry these libraries',
  },
  {
    names: ['yaml'],
    rooms: ['controller/', 'shared/config/'],
    why: 'documents are read by the controller and its commands, settings files by shared/config',
  },
  {
    names: ['zod'],
    rooms: ['controller/', 'shared/', 'agent/control/'],
    why: 'data-plane workers get checked data from the control thread',
  },
  {
    names: ['prom-client'],
    rooms: ['agent/telemetry/', 'agent/admin/', 'agent/app.ts', 'controller/api/'],
    why: 'metrics have one room',
  },
  { names: ['pino'], rooms: ['shared/log.ts', 'controller/store/'], why: 'shared/log.ts makes the logger' },
  {
    names: ['commander'],
    rooms: [
      'agent/command-line.ts',
      'agent/run.ts',
      'agent/remove.ts',
      'agent/supervise.ts',
      'controller/command-line.ts',
      'controller/maintenance.ts',
      'controller/cli/',
      'shared/config/',
      'shared/program/',
    ],
    why: 'command lines are read where a program starts',
  },
];

/** What a file must not load before it runs, also not through what it imports. `import()` may load it later. */
export const lateLibraries: readonly {
  readonly file: string;
  readonly names: readonly string[];
  readonly why: string;
}[] = [
  {
    file: 'agent/run.ts',
    names: ['nats'],
    why: 'an agent serves from its last good state first; the client of NATS takes a fifth of the time until then',
  },
  {
    file: 'agent/supervise.ts',
    names: ['zod', 'nats', 'prom-client'],
    why: 'a supervisor starts its agent before anything else, and stays small',
  },
  {
    file: 'agent/dataplane/worker/worker.ts',
    names: ['zod', 'nats', 'prom-client', 'pino', 'yaml'],
    why: 'each data-plane thread loads its code by itself',
  },
  {
    file: 'controller/main.ts',
    names: ['zod', 'nats', 'prom-client', '@peculiar/x509', 'node-forge'],
    why: 'a wrong command line is refused, and help is given, before what a command needs is loaded',
  },
  {
    file: 'controller/run.ts',
    names: ['node-forge'],
    why: 'a controller that runs reads and writes no PKCS#12',
  },
];

/** Which thread of the agent runs a room. What is in neither list may be imported by both. */
export const agentThreads = {
  control: [
    'agent/admin/',
    'agent/app.ts',
    'agent/capture/',
    'agent/check-host.ts',
    'agent/command-line.ts',
    'agent/config/',
    'agent/control/',
    'agent/dataplane/pool/',
    'agent/fail-opener.ts',
    'agent/capabilities.ts',
    'agent/host-user.ts',
    'agent/privileges.ts',
    'agent/remove.ts',
    'agent/run.ts',
    'agent/supervise.ts',
    'agent/supervised.ts',
    'agent/telemetry/',
  ],
  worker: ['agent/dataplane/'],
  /** What the two threads hand each other: messages, settings, shared memory, and plain data in messages. */
  both: [
    'agent/dataplane/image/',
    'agent/dataplane/messages.ts',
    'agent/dataplane/report/',
    'agent/dataplane/settings.ts',
    'agent/dataplane/workload-usage.ts',
    'agent/native/',
    'agent/ports.ts',
    'agent/self-test-target.ts',
    'agent/thread/',
  ],
} as const;

/** Functions of their arguments: no input or output, no logger, no clock, no chance, also not through what they import. */
export const pureRooms: readonly string[] = [
  'agent/dataplane/balance/',
  'agent/dataplane/image/',
  'agent/dataplane/limit/',
  'agent/dataplane/report/',
  'agent/dataplane/route/',
  'controller/analysis/',
  'controller/compile/',
  'controller/install/',
  'controller/resources/',
  'shared/policy/',
  'shared/routing/',
];
/**
 * Lets the event loop do other work in the middle of a long computation. It reads the clock to know when, and what the
 * computation returns does not depend on it.
 */
export const pureInEffect: readonly string[] = ['shared/in-turns.ts'];
/** All that a pure room may import from outside this repository: modules of Node and packages without input or output. */
export const pureImports: readonly string[] = ['node:crypto', 'node:util', 'ipaddr.js', 'yaml', 'zod'];
/** Forbidden in the text of a pure file. */
export const impureCode: readonly { readonly what: string; readonly pattern: RegExp }[] = [
  { what: 'Date.now', pattern: /\bDate\.now\b/ },
  { what: 'new Date()', pattern: /\bnew Date(?:\(\)|(?!\())/ },
  // Anything but a call of its pure functions, `new Date(ms)` and the type: an alias, or the current time as text.
  { what: 'the value Date', pattern: /(?<!\bnew )(?<![\w.'"`])\bDate\b(?!\.(?:parse|UTC|now)\b|['"`])/ },
  { what: 'performance.now', pattern: /\bperformance\s*(?:[.,;)=[}]|\?\.)/ },
  { what: 'Math.random', pattern: /\bMath\.random\b|\bMath\b(?!\.)/ },
  { what: 'randomBytes', pattern: /\b(?:randomBytes|randomUUID|randomInt|getRandomValues)\b/ },
  { what: 'process', pattern: /\bprocess\s*(?:[.,;)=[}]|\?\.)/ },
  { what: 'globalThis', pattern: /\bglobalThis\b/ },
  { what: 'fetch', pattern: /(?<![.\w])fetch\(/ },
];

/**
 * Ways to load code that these rules cannot read, and the files that may use them for a file of their own or a library
 * that only some commands need.
 */
export const unreadableImports: readonly { readonly what: string; readonly pattern: RegExp }[] = [
  { what: 'createRequire', pattern: /\bcreateRequire\b/ },
  { what: 'require', pattern: /\bimport\s+(?:type\s+)?\w+\s*=\s*require\(/ },
  { what: 'getBuiltinModule', pattern: /\bgetBuiltinModule\b/ },
  { what: 'import() of something else than a text', pattern: /\bimport\(\s*(?!'[^']*'\s*[,)])/ },
];
export const mayImportUnreadably: readonly string[] = [
  'agent/native/addon.ts',
  'shared/native/file-lock.ts',
  'controller/cli/view/lazy-yaml.ts',
  'test/',
];

/** Calls that are never right in a room. */
export const forbiddenCalls: readonly {
  readonly what: string;
  readonly pattern: RegExp;
  readonly room: string;
  readonly except?: string;
  readonly why: string;
}[] = [
  ...['agent/', 'controller/', 'shared/', 'test/e2e/', 'test/integration/', 'test/lab/', 'test/support/'].map(
    (room) => ({
      what: 'AbortSignal.timeout',
      pattern: /\bAbortSignal\.timeout\b/,
      room,
      except: 'shared/timeout-signal.ts',
      why: 'combined with another signal, it is collected before it fires; use timeoutSignal of shared/timeout-signal.ts',
    }),
  ),
  {
    what: 'resetAndDestroy',
    pattern: /\bresetAndDestroy\b/,
    room: 'agent/',
    why: 'it leaks a socket whose end() is not finished; use resetSocket of agent/native/addon.ts',
  },
  ...['agent/', 'controller/', 'shared/'].map((room) => ({
    what: 'removeAllListeners',
    pattern: /\bremoveAllListeners\b/,
    room,
    why: 'it takes off listeners that others need; take off the one that was put on',
  })),
];

/**
 * Floors of a building, the highest first. A room imports rooms of its own floor and of floors below. Rooms of one floor
 * are separated by spaces.
 */
export const buildings: Readonly<Record<string, readonly string[]>> = {
  'the data plane': [
    'agent/dataplane/worker/',
    'agent/dataplane/flow/',
    'agent/dataplane/state/ agent/dataplane/listen/ agent/dataplane/limit/ agent/dataplane/balance/',
    'agent/dataplane/tunnel/ agent/dataplane/relay/',
    'agent/dataplane/engine/',
    'agent/dataplane/io/ agent/dataplane/sockets/ agent/dataplane/connection/ agent/dataplane/route/',
    'agent/dataplane/image/ agent/dataplane/report/ agent/dataplane/messages.ts agent/dataplane/settings.ts agent/dataplane/workload-usage.ts',
    'agent/native/ agent/ports.ts agent/thread/',
  ],
  "the agent's control thread": [
    'agent/main.ts',
    'agent/command-line.ts',
    'agent/run.ts agent/remove.ts agent/check-host.ts agent/supervise.ts agent/fail-opener.ts agent/supervised.ts agent/privileges.ts agent/capabilities.ts agent/host-user.ts',
    'agent/app.ts',
    'agent/admin/',
    'agent/control/control-plane.ts agent/control/control-plane-init.ts agent/control/control-link.ts',
    'agent/control/cni/',
    'agent/control/join/ agent/control/followers/ agent/control/workloads/ agent/control/succession/',
    'agent/control/state/',
    'agent/control/credentials/',
    'agent/telemetry/ agent/capture/ agent/dataplane/pool/',
    'agent/capture/firewall/',
    'agent/config/',
    'agent/dataplane/',
    'agent/native/ agent/ports.ts agent/thread/ agent/self-test-target.ts',
  ],
  'the controller': [
    'controller/main.ts',
    'controller/command-line.ts',
    'controller/run.ts',
    'controller/app.ts controller/stand-by.ts controller/mesh-link.ts controller/maintenance.ts controller/closing-stack.ts',
    'controller/cli/main.ts',
    'controller/cli/program.ts',
    'controller/cli/commands/',
    'controller/cli/client/ controller/cli/cli.ts controller/cli/input/',
    'controller/cli/view/',
    'controller/cli/',
    'controller/api/',
    'controller/fleet/',
    'controller/join/ controller/nats/ controller/flows/ controller/kubernetes/',
    'controller/ca/',
    'controller/store/ controller/config/ controller/access/ controller/audit-log/',
    'controller/publish/',
    'controller/release/',
    'controller/keys/',
    'controller/inventory/',
    'controller/analysis/ controller/install/',
    'controller/compile/',
    'controller/resources/ controller/records/',
  ],
};

/** Only the file in which a program starts may end it. */
export const mayExit = /(?:^|\/)main\.ts$|^test\//;
