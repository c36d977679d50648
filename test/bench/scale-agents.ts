import { fileURLToPath } from 'node:url';
import type { ApplyAnswer, RolloutAnswer } from '../../controller/api/api-types.js';
import type { LabProcess } from '../lab/lab-process.js';
import { type Mesh, prepareMesh } from '../lab/mesh.js';
import { programs } from '../lab/programs.js';
import { waitUntil } from '../lab/wait-until.js';
import { reportOf } from './load-program.js';
import { usageOf } from './process-usage.js';
import { ruleDocuments } from './rule-documents.js';
import { type Spread, spreadOf } from './spread.js';

/** With this many agents: a change on its way to all of them, and what the controller takes. Controller: with its nats-server. */
export type AgentsScale = {
  readonly agents: number;
  /** From the start of the `culvert apply` process until the last agent has the rules. */
  readonly inForceMs: Spread;
  /** Until the controller knows it: its rollout is complete. */
  readonly rolloutCompleteMs: Spread;
  /** One workload changes: from the start of the request until the last agent has it in its whole registry. */
  readonly endpointInForceMs: Spread;
  /** What that costs the controller. */
  readonly controllerCpuMsPerEndpoint: number;
  /** `culvert apply` itself, of rules. */
  readonly commandMs: Spread;
  readonly controllerCpuMsPerApply: number;
  /** Of all simulated agents together, which share the machine with the controller and delay it. */
  readonly agentsCpuMsPerApply: number;
  /** No change: heartbeats alone. */
  readonly controllerIdlePercent: number;
  readonly controllerRssBytes: number;
};

/** The host of all simulated agents; a mesh is never without a workload. */
const topology = {
  hosts: [{ name: 'fleet', workloads: [{ name: 'probe', namespace: 'live', serviceAccount: 'probe' }] }],
};
const size = { rules: 200, workloads: 200, node: 'elsewhere' };
const idleMs = 5000;
const deadlineMs = 120_000;

/** Grows the mesh from one number of agents to the next; changes one rule `rounds` times at each. */
export async function measureAgents(
  init: { readonly agents: readonly number[]; readonly rounds: number },
  say: (line: string) => void,
): Promise<AgentsScale[]> {
  await using mesh = await prepareMesh({ topology });
  await apply(mesh, ruleDocuments(size).text);
  const groups: LabProcess[] = [];
  const results: AgentsScale[] = [];
  let running = 0;
  for (const agents of init.agents) {
    say(`${agents} simulated agents join`);
    groups.push(await startGroup(mesh, groups.length, agents - running));
    running = agents;
    results.push(await measureChanges(mesh, groups, agents, init.rounds));
  }
  return results;
}

async function startGroup(mesh: Mesh, number: number, count: number): Promise<LabProcess> {
  const file = fileURLToPath(new URL('load/simulated-agents.js', import.meta.url));
  const { url, contextFile } = mesh.controller;
  const argv = [process.execPath, file, url, contextFile, `group${number}`, String(count)];
  const group = await mesh.lab.host('fleet').spawn(argv);
  await reportOf(group, 'joined', deadlineMs);
  return group;
}

async function measureChanges(
  mesh: Mesh,
  groups: readonly LabProcess[],
  agents: number,
  rounds: number,
): Promise<AgentsScale> {
  const { pid } = mesh.controller.process;
  const endpoints = await measureEndpoints(mesh, groups, rounds);
  const changes: { inForce: number; rollout: number; command: number; cpu: number; agentsCpu: number }[] = [];
  const agentsCpu = (): number => usageOf(groups.map((group) => group.pid)).cpuSeconds;
  for (let round = 0; round < rounds; round++) {
    const [cpuBefore, agentsCpuBefore] = [usageOf([pid]).cpuSeconds, agentsCpu()];
    const startedAt = Date.now();
    const { revision } = await apply(mesh, gate(round % 2 === 0 ? 'deny' : 'allow'));
    const command = Date.now() - startedAt;
    const rollout = waitUntil(
      `the rollout of revision ${revision} is complete`,
      async () => {
        const { isComplete } = (await mesh.controller.api(`/v1/rollout?revision=${revision}`)) as RolloutAnswer;
        return isComplete ? Date.now() - startedAt : undefined;
      },
      deadlineMs,
    );
    const arrivals = groups.map((group) => lastArrival(group, 'revision', revision));
    const inForce = Math.max(...(await Promise.all(arrivals))) - startedAt;
    const rolloutMs = await rollout;
    const cpu = usageOf([pid]).cpuSeconds - cpuBefore;
    changes.push({ inForce, rollout: rolloutMs, command, cpu, agentsCpu: agentsCpu() - agentsCpuBefore });
  }
  const before = usageOf([pid]).cpuSeconds;
  await new Promise((resolve) => setTimeout(resolve, idleMs));
  const { cpuSeconds, rssBytes } = usageOf([pid]);
  return {
    agents,
    inForceMs: spreadOf(changes.map(({ inForce }) => inForce)),
    rolloutCompleteMs: spreadOf(changes.map(({ rollout }) => rollout)),
    ...endpoints,
    commandMs: spreadOf(changes.map(({ command }) => command)),
    controllerCpuMsPerApply: spreadOf(changes.map(({ cpu }) => cpu * 1000)).median,
    agentsCpuMsPerApply: spreadOf(changes.map((change) => change.agentsCpu * 1000)).median,
    controllerIdlePercent: ((cpuSeconds - before) / (idleMs / 1000)) * 100,
    controllerRssBytes: rssBytes,
  };
}

/** The clock is the machine's own, the same for all processes. */
async function lastArrival(group: LabProcess, what: 'revision' | 'inventory', number: number): Promise<number> {
  const [, at = ''] = await group.waitForLine(
    new RegExp(`^report \\{"${what}":${number},.*"lastAtMs":(\\d+)\\}`),
    deadlineMs,
  );
  return Number(at);
}

/** One workload changes its labels, over and over. */
async function measureEndpoints(
  mesh: Mesh,
  groups: readonly LabProcess[],
  rounds: number,
): Promise<Pick<AgentsScale, 'endpointInForceMs' | 'controllerCpuMsPerEndpoint'>> {
  const { pid } = mesh.controller.process;
  const figures: { inForce: number; cpu: number }[] = [];
  for (let round = 0; round <= rounds; round++) {
    const cpuBefore = usageOf([pid]).cpuSeconds;
    const startedAt = Date.now();
    const { inventory } = (await mesh.controller.api('/v1/apply', {
      documents: endpoint(`r${startedAt}`),
    })) as ApplyAnswer;
    const arrivals = groups.map((group) => lastArrival(group, 'inventory', inventory.sequence));
    const inForce = Math.max(...(await Promise.all(arrivals))) - startedAt;
    figures.push({ inForce, cpu: usageOf([pid]).cpuSeconds - cpuBefore });
  }
  // The first is also the first of its kind.
  const counted = figures.slice(1);
  return {
    endpointInForceMs: spreadOf(counted.map(({ inForce }) => inForce)),
    controllerCpuMsPerEndpoint: spreadOf(counted.map(({ cpu }) => cpu * 1000)).median,
  };
}

function endpoint(round: string): string {
  return JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'Workload',
    metadata: { name: 'endpoint', namespace: 'ns-0', labels: { app: 'app-0', round } },
    spec: { serviceAccount: 'app-0', addresses: ['10.255.0.1'], node: 'elsewhere' },
  });
}

/** `culvert apply`; resolves with the answer when the command has ended. */
async function apply(mesh: Mesh, documents: string): Promise<ApplyAnswer> {
  const { node, contextFile } = mesh.controller;
  const argv = ['env', `CULVERT_CONTEXT=${contextFile}`, ...programs.culvert, 'apply', '-f', '-', '-o', 'json'];
  return JSON.parse(await node.check(argv, { input: documents, timeoutMs: deadlineMs })) as ApplyAnswer;
}

function gate(action: 'allow' | 'deny'): string {
  return JSON.stringify({
    apiVersion: 'culvert.dev/v1',
    kind: 'SegmentationRule',
    metadata: { name: 'gate' },
    spec: { tier: 'platform', priority: 1, action, from: [{ namespace: 'ns-0' }], to: [{ namespace: 'ns-1' }] },
  });
}
