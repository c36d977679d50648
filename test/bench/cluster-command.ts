import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { Command } from 'commander';
import { type Mesh, prepareMesh } from '../lab/mesh.js';
import { countOption } from './bench-options.js';
import { bytesText } from './figure-text.js';
import { isMet, scaleGoals } from './goals.js';
import { reportOf } from './load-program.js';
import { machineText, thisMachine } from './machine.js';
import { usageOf } from './process-usage.js';
import { shortJson } from './report-json.js';
import { withPrograms } from './with-programs.js';

type Options = { json: boolean; pods: string; changes: string; seconds: string };

/** A cluster whose pods change all the time. Figures of the controller are with its nats-server. */
type ClusterScale = {
  readonly pods: number;
  readonly changes: number;
  readonly changesPerSecond: number;
  readonly roots: number;
  /** Never in force, or refused by the agent. */
  readonly failed: number;
  /** 100 is a whole core. */
  readonly controllerPercent: number;
  readonly controllerRssBytes: number;
  /** From the API server until an agent without a data plane has it in its registry. */
  readonly inForceMs: { readonly median: number; readonly p99: number; readonly max: number };
};

/** The API server is the controller's neighbour, and is there before it is asked for: the controller tries again. */
const apiPort = 16_443;
const topology = {
  hosts: [{ name: 'fleet', workloads: [{ name: 'probe', namespace: 'live', serviceAccount: 'probe' }] }],
};
const deadlineMs = 300_000;

/** `cluster`: what the pods of a cluster cost the controller, and when agents know of a change. */
export function clusterCommand(): Command {
  return new Command('cluster')
    .description('What the changing pods of a Kubernetes cluster cost, with an API server of its own (needs root).')
    .option('--json', 'the last line of the standard output is JSON', false)
    .option('--pods <n>', 'pods of the cluster', '5000')
    .option('--changes <n>', 'pods that change each second', '100')
    .option('--seconds <n>', 'for this long', '60')
    .action(withPrograms(run));
}

async function run(options: Options): Promise<void> {
  const pods = countOption(options.pods, '--pods');
  const changesPerSecond = countOption(options.changes, '--changes');
  const seconds = countOption(options.seconds, '--seconds');
  const machine = await thisMachine();
  const found = await measureCluster({ pods, changesPerSecond, seconds });
  const { inForceMs } = found;
  const goals = (
    [
      ['pods-controller', found.controllerPercent],
      ['pods-in-force', inForceMs.p99],
    ] as const
  ).map(([id, figure]) => ({ id, figure, limit: scaleGoals[id].limit, met: isMet(scaleGoals[id], figure, 1) }));
  const lines = [
    machineText(machine),
    '',
    `${pods} pods; ${found.changes} changes, ${changesPerSecond} a second, and as many that do not concern the mesh`,
    `controller: ${found.controllerPercent.toFixed(1)}% of a core, ${bytesText(found.controllerRssBytes)}`,
    `in force at an agent after ${inForceMs.median.toFixed(0)} ms, p99 ${inForceMs.p99.toFixed(0)} ms, the last after ` +
      `${inForceMs.max.toFixed(0)} ms; ${found.roots} roots, ${found.failed} failed`,
    '',
    ...goals.map(
      ({ id, figure, limit, met }) => `${id}: ${Math.round(figure)}, limit ${limit}: ${met ? 'met' : 'missed'}`,
    ),
    ...(options.json ? [shortJson({ cluster: found, goals, machine })] : []),
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
  if (found.failed > 0) process.exitCode = 1;
}

type Load = { readonly pods: number; readonly changesPerSecond: number; readonly seconds: number };

async function measureCluster(load: Load): Promise<ClusterScale> {
  const files = await mkdtemp(path.join(tmpdir(), 'culvert-cluster-'));
  try {
    await using mesh = await prepareMesh({ topology, controllerArgs: kubernetesArgs(files) });
    return await measureChanges(mesh, files, load);
  } finally {
    await rm(files, { recursive: true, force: true });
  }
}

async function measureChanges(mesh: Mesh, files: string, load: Load): Promise<ClusterScale> {
  const { pods, changesPerSecond, seconds } = load;
  const { url, contextFile, node, process: controller } = mesh.controller;
  const file = fileURLToPath(new URL('load/cluster-churn.js', import.meta.url));
  const numbers = [pods, changesPerSecond, seconds].map(String);
  const cluster = await node.spawn([process.execPath, file, url, contextFile, String(apiPort), files, ...numbers]);
  try {
    await reportOf(cluster, 'following', deadlineMs);
    const before = usageOf([controller.pid]).cpuSeconds;
    const report = await reportOf(cluster, 'changes', deadlineMs);
    const { cpuSeconds, rssBytes } = usageOf([controller.pid]);
    const figure = (name: string): number => report[name] ?? Number.NaN;
    return {
      pods,
      changes: figure('changes'),
      changesPerSecond,
      roots: figure('roots'),
      failed: figure('unreached') + figure('alarms'),
      // By change and not by time: on a machine that is too busy for the rate, the changes take longer and cost the same.
      controllerPercent: ((cpuSeconds - before) / figure('changes')) * changesPerSecond * 100,
      controllerRssBytes: rssBytes,
      inForceMs: { median: figure('inForceMedianMs'), p99: figure('inForceP99Ms'), max: figure('inForceMaxMs') },
    };
  } finally {
    await cluster.stop();
  }
}

function kubernetesArgs(directory: string): string[] {
  const file = (name: string): string => path.join(directory, name);
  return [
    '--kubernetes-api',
    `https://127.0.0.1:${apiPort}`,
    '--kubernetes-ca-file',
    file('ca.crt'),
    '--kubernetes-token-file',
    file('token'),
  ];
}
