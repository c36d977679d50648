import { open } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Command } from 'commander';
import { CulvertError, describeError } from '../../shared/errors.js';
import { twoHosts } from '../e2e/two-hosts.js';
import { startNginx } from '../lab/applications.js';
import type { LabWorkload } from '../lab/lab-node.js';
import { type Mesh, prepareMesh } from '../lab/mesh.js';
import type { MeshAgent } from '../lab/mesh-agent.js';
import { findCommand } from '../lab/requirements.js';
import { rulesCommand } from './rules-command.js';
import { parseWrkOutput, type WrkResult } from './wrk-output.js';

/**
 * `node dist/test/bench/main.js`: what the mesh costs an unmodified nginx that `wrk` loads from another host, beside the
 * direct path between the same two workloads in the same run. Figures of two runs are not comparable: a busy machine
 * changes both, so look at the ratio and at the CPU for each request.
 */
type BenchCase = {
  readonly name: string;
  readonly wrk: readonly string[];
  readonly page: '/' | '/big';
};

const cases: readonly BenchCase[] = [
  { name: 'new connections', wrk: ['-c16', '-H', 'Connection: close'], page: '/' },
  { name: 'keep-alive requests', wrk: ['-c32'], page: '/' },
  { name: 'bulk, 1 connection', wrk: ['-c1'], page: '/big' },
  { name: 'bulk, 4 connections', wrk: ['-c4'], page: '/big' },
];
const bigFileBytes = 64 * 1024 ** 2;
/** USER_HZ, in which /proc/PID/stat counts CPU time; the same on every architecture that Node runs on. */
const ticksPerSecond = 100;

async function bench(seconds: number, workers: string): Promise<void> {
  if (findCommand('wrk') === null) {
    throw new CulvertError({ code: 'REQUIREMENT_MISSING', message: 'wrk is missing', hint: 'apt-get install wrk' });
  }
  await using mesh = await prepareMesh({ topology: twoHosts, agentArgs: ['--workers', workers] });
  const [client, server] = [mesh.lab.workload('client'), mesh.lab.workload('server')];
  await using nginx = await startNginx({ lab: mesh.lab, at: server });
  await using big = await open(path.join(nginx.directory, 'www', 'big'), 'w');
  await big.truncate(bigFileBytes);

  const load = (benchCase: BenchCase): Promise<WrkResult> => runWrk(client, server, benchCase, seconds);
  const direct: WrkResult[] = [];
  for (const benchCase of cases) direct.push(await load(benchCase));
  await mesh.startAgents();
  // The first connections are served by code that is not compiled yet.
  for (const benchCase of cases) await load(benchCase);
  const rows = [['', 'direct', 'mesh', 'ratio', 'agent CPU (source + destination)']];
  for (const [index, benchCase] of cases.entries()) {
    const before = mesh.agents.map(cpuSeconds);
    const meshed = await load(benchCase);
    const used = mesh.agents.map((agent, at) => cpuSeconds(agent) - (before[at] ?? 0));
    rows.push(describe(benchCase, direct[index] ?? meshed, meshed, used));
  }
  for (const row of rows)
    console.log(
      row
        .map((cell, at) => cell.padEnd(at === 0 ? 22 : 14))
        .join('')
        .trimEnd(),
    );
  console.log(`resident memory: ${mesh.agents.map((agent) => `${agent.name} ${residentMib(agent)} MiB`).join(', ')}`);
  await stopAgents(mesh);
}

async function runWrk(client: LabWorkload, server: LabWorkload, { wrk, page }: BenchCase, seconds: number) {
  const argv = ['wrk', '-t1', '--timeout', '30s', `-d${seconds}s`, ...wrk, `http://${server.ipv4}${page}`];
  return parseWrkOutput(await client.check(argv, { timeoutMs: (seconds + 30) * 1000 }));
}

function describe({ name, page }: BenchCase, direct: WrkResult, meshed: WrkResult, cpu: readonly number[]): string[] {
  const isBulk = page === '/big';
  const figure = (result: WrkResult): number => (isBulk ? result.gigabitsPerSecond : result.requestsPerSecond);
  const text = (result: WrkResult): string =>
    isBulk ? `${figure(result).toFixed(2)} Gbit/s` : `${Math.round(figure(result))}/s`;
  const cost = (seconds: number): string =>
    isBulk
      ? `${((seconds / meshed.bytes) * 1024 ** 3).toFixed(2)} s/GiB`
      : `${Math.round((seconds / meshed.requests) * 1e6)} µs`;
  const ratio = figure(meshed) / figure(direct);
  return [name, text(direct), text(meshed), ratio.toFixed(3), cpu.map(cost).join(' + ')];
}

async function stopAgents(mesh: Mesh): Promise<void> {
  await Promise.all(mesh.agents.map((agent) => agent.stop()));
}

/** User and system time of all threads (proc_pid_stat(5), fields 14 and 15). */
function cpuSeconds({ process: { pid } }: MeshAgent): number {
  const afterName = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1) ?? '';
  const fields = afterName.split(' ');
  return (Number(fields[11]) + Number(fields[12])) / ticksPerSecond;
}

function residentMib({ process: { pid } }: MeshAgent): number {
  const kibibytes = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Math.round(Number(kibibytes) / 1024);
}

const program = new Command('bench')
  .description('What the mesh costs, beside the direct path in the same run (needs root and wrk).')
  .option('--seconds <n>', 'for each measurement', '5')
  .option('--workers <n>', 'data-plane workers of each agent', '1')
  .action((options: { seconds: string; workers: string }) => bench(Number(options.seconds), options.workers))
  .addCommand(rulesCommand());
try {
  await program.parseAsync();
} catch (error) {
  console.error(describeError(error));
  process.exitCode = 1;
}
