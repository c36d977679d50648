import { type Mesh, prepareMesh } from '../lab/mesh.js';
import type { MeshAgent } from '../lab/mesh-agent.js';
import { programs } from '../lab/programs.js';
import { usageOf } from './process-usage.js';
import { ruleDocuments } from './rule-documents.js';
import { type ChangeScale, measureChange } from './scale-changes.js';
import { type ChurnScale, measureChurn } from './scale-churn.js';
import { spreadOf } from './spread.js';

/** An agent that knows this many workloads, two of them its own. */
export type WorkloadsScale = {
  readonly workloads: number;
  /** From the start of its process with one worker until it is ready, with its state on disk; the median of the starts. */
  readonly startMs: number;
  /** What that takes of a CPU, whatever else the machine does. */
  readonly startCpuMs: number;
  /** By number of workers, 1 and 2; some seconds after it was ready, the median of the starts. */
  readonly rssBytes: Readonly<Record<1 | 2, number>>;
  /** `culvert apply` of what was new. */
  readonly applyMs: number;
  /** One of them changes. */
  readonly change: ChangeScale;
  /** Many of them change all the time; null: not measured. */
  readonly churn: ChurnScale | null;
};

const topology = {
  hosts: [
    {
      name: 'node1',
      workloads: [
        { name: 'web', namespace: 'live', serviceAccount: 'web' },
        { name: 'db', namespace: 'live', serviceAccount: 'db' },
      ],
    },
  ],
};
/** Documents of one apply: what the controller takes in one request is bounded. */
const chunkSize = 5000;
const settleMs = 3000;
const deadlineMs = 600_000;

/** `workloads`: sizes, the smallest first. */
export async function measureWorkloads(
  workloads: readonly number[],
  o: {
    readonly starts: number;
    readonly churn: { readonly changesPerSecond: number; readonly seconds: number } | null;
  },
  say: (line: string) => void,
): Promise<WorkloadsScale[]> {
  await using mesh = await prepareMesh({ topology, agentOutput: 'file' });
  const agent = mesh.agent('node1');
  await agent.fetchToken();
  const results: WorkloadsScale[] = [];
  const registered = new Set<string>();
  for (const size of workloads) {
    say(`${size} workloads are registered`);
    const applyMs = await register(mesh, size, registered);
    // This start fetches what is new and writes it to disk; those that are measured find it there.
    await start(agent, 1);
    await settle();
    await agent.stop();
    say(`an agent starts among ${size} workloads`);
    const one = await measureStarts(agent, 1, o.starts);
    const two = await measureStarts(agent, 2, o.starts);
    const rssBytes = { 1: one.rssBytes, 2: two.rssBytes };
    say(`one of ${size} workloads changes`);
    await start(agent, 1);
    const change = await measureChange(mesh, agent, documentsOf(size).at(-1) ?? '');
    if (o.churn !== null)
      say(`${o.churn.changesPerSecond} of ${size} workloads change each second, for ${o.churn.seconds} s`);
    const churn = o.churn === null ? null : await measureChurn(mesh, agent, { workloads: size, ...o.churn });
    await agent.stop();
    const { startMs, startCpuMs } = one;
    results.push({ workloads: size, startMs, startCpuMs, rssBytes, applyMs, change, churn });
  }
  return results;
}

/** What each further worker takes for each further workload, in bytes. */
export function bytesPerWorkloadAndWorker(results: readonly WorkloadsScale[]): number | null {
  const [first, last] = [results[0], results.at(-1)];
  if (first === undefined || last === undefined || first.workloads === last.workloads) return null;
  const worker = ({ rssBytes }: WorkloadsScale): number => rssBytes[2] - rssBytes[1];
  return (worker(last) - worker(first)) / (last.workloads - first.workloads);
}

/** What an agent with one worker takes for each further workload, in bytes: its control thread and the worker. */
export function bytesPerWorkload(results: readonly WorkloadsScale[]): number | null {
  const [first, last] = [results[0], results.at(-1)];
  if (first === undefined || last === undefined || first.workloads === last.workloads) return null;
  return (last.rssBytes[1] - first.rssBytes[1]) / (last.workloads - first.workloads);
}

type Started = Pick<WorkloadsScale, 'startMs' | 'startCpuMs'>;

/** Several: how much garbage is resident when one looks differs from start to start. */
async function measureStarts(
  agent: MeshAgent,
  workers: 1 | 2,
  starts: number,
): Promise<Started & { readonly rssBytes: number }> {
  const found: (Started & { readonly rssBytes: number })[] = [];
  for (let round = 0; round < starts; round++) {
    const started = await start(agent, workers);
    await settle();
    found.push({ ...started, rssBytes: usageOf([agent.process.pid]).rssBytes });
    await agent.stop();
  }
  return {
    startMs: spreadOf(found.map(({ startMs }) => startMs)).median,
    startCpuMs: spreadOf(found.map(({ startCpuMs }) => startCpuMs)).median,
    rssBytes: spreadOf(found.map(({ rssBytes }) => rssBytes)).median,
  };
}

async function start(agent: MeshAgent, workers: number): Promise<Started> {
  const startedAt = performance.now();
  await agent.start(['--workers', String(workers)]);
  await agent.waitReady(deadlineMs);
  const startMs = performance.now() - startedAt;
  return { startMs, startCpuMs: usageOf([agent.process.pid]).cpuSeconds * 1000 };
}

async function register(mesh: Mesh, size: number, registered: Set<string>): Promise<number> {
  const fresh = documentsOf(size).filter((document) => !registered.has(document));
  for (const document of fresh) registered.add(document);
  const { node, contextFile } = mesh.controller;
  const argv = ['env', `CULVERT_CONTEXT=${contextFile}`, ...programs.culvert, 'apply', '-f', '-', '-o', 'json'];
  const startedAt = performance.now();
  for (let at = 0; at < fresh.length; at += chunkSize) {
    const input = fresh.slice(at, at + chunkSize).join('\n---\n');
    await node.check(argv, { input, timeoutMs: deadlineMs });
  }
  return performance.now() - startedAt;
}

/** The last one is of a workload. */
function documentsOf(workloads: number): string[] {
  return ruleDocuments({ rules: 0, workloads, node: 'elsewhere' }).text.split('\n---\n');
}

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, settleMs));
}
