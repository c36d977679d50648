import process from 'node:process';
import { Command } from 'commander';
import { CulvertError } from '../../shared/errors.js';
import { bytesText } from './figure-text.js';
import { isMet, type ScaleGoalId, scaleGoals } from './goals.js';
import { growthExponents, type GrowthPoint } from './growth.js';
import { machineText, thisMachine } from './machine.js';
import { shortJson } from './report-json.js';
import { aligned } from './report-table.js';
import { type AgentsScale, measureAgents } from './scale-agents.js';
import type { ChangeScale } from './scale-changes.js';
import {
  bytesPerWorkload,
  bytesPerWorkloadAndWorker,
  measureWorkloads,
  type WorkloadsScale,
} from './scale-workloads.js';
import { withPrograms } from './with-programs.js';

type Options = {
  json: boolean;
  quick: boolean;
  workloads: string;
  agents: string;
  rounds: string;
  churn: string;
  churnSeconds: string;
};

/** `scale`: what grows with the number of workloads and of agents, and how. */
export function scaleCommand(): Command {
  return new Command('scale')
    .description('Memory, start-up and changes by workloads, and an apply on its way to many agents (needs root).')
    .option('--json', 'the last line of the standard output is JSON', false)
    .option('--workloads <ns>', 'sizes of the mesh, smallest first; 0: leave this part out', '1000,10000,50000')
    .option('--agents <ns>', 'numbers of simulated agents, smallest first; 0: leave this part out', '10,100,500')
    .option('--rounds <n>', 'changes of one rule, and of one workload, with each number of agents', '5')
    .option('--churn <n>', 'workloads that change each second; 0: leave this part out', '100')
    .option('--churn-seconds <n>', 'for so long', '60')
    .option('--quick', 'one start, and ten seconds of churn', false)
    .action(withPrograms(run));
}

async function run(options: Options): Promise<void> {
  const sizes = { workloads: sizesOf(options.workloads, '--workloads'), agents: sizesOf(options.agents, '--agents') };
  const [rounds = 1] = sizesOf(options.rounds, '--rounds');
  const machine = await thisMachine();
  print([machineText(machine), '']);
  const agents = sizes.agents.length === 0 ? [] : await measureAgents({ agents: sizes.agents, rounds }, say);
  print(agentLines(agents));
  const [changesPerSecond] = sizesOf(options.churn, '--churn');
  const [seconds = 1] = options.quick ? [10] : sizesOf(options.churnSeconds, '--churn-seconds');
  const churn = changesPerSecond === undefined ? null : { changesPerSecond, seconds };
  const starts = options.quick ? 1 : 3;
  const workloads = sizes.workloads.length === 0 ? [] : await measureWorkloads(sizes.workloads, { starts, churn }, say);
  print(workloadLines(workloads));
  print(changeLines(workloads));
  print(churnLines(workloads));
  const goals = [
    ...goalOf('apply-500', agents.find((size) => size.agents === 500)?.inForceMs.median),
    ...goalOf('endpoint-500', agents.find((size) => size.agents === 500)?.endpointInForceMs.median),
    ...goalOf('churn-50k', workloads.find((size) => size.workloads === 50_000)?.churn?.controllerPercent),
    ...goalOf('start-50k', workloads.find((size) => size.workloads === 50_000)?.startMs),
    ...goalOf('workload-memory', bytesPerWorkloadAndWorker(workloads)),
  ];
  print(
    goals.map(
      ({ id, figure, limit, met }) => `${id}: ${Math.round(figure)}, limit ${limit}: ${met ? 'met' : 'missed'}`,
    ),
  );
  if (options.json) {
    const perWorkload = { worker: bytesPerWorkloadAndWorker(workloads), agent: bytesPerWorkload(workloads) };
    print([shortJson({ agents, workloads, bytesPerWorkload: perWorkload, goals, machine })]);
  }
}

function agentLines(results: readonly AgentsScale[]): string[] {
  if (results.length === 0) return [];
  const head = [
    'agents',
    'in force',
    'slowest',
    'rollout',
    'command',
    'controller',
    'all agents',
    'endpoint in force',
    'slowest',
    'controller',
    'at rest',
    'memory',
  ];
  const rows = results.map((size) => [
    String(size.agents),
    milliseconds(size.inForceMs.median),
    milliseconds(size.inForceMs.max),
    milliseconds(size.rolloutCompleteMs.median),
    milliseconds(size.commandMs.median),
    `${milliseconds(size.controllerCpuMsPerApply)} CPU`,
    `${milliseconds(size.agentsCpuMsPerApply)} CPU`,
    milliseconds(size.endpointInForceMs.median),
    milliseconds(size.endpointInForceMs.max),
    `${milliseconds(size.controllerCpuMsPerEndpoint)} CPU`,
    `${size.controllerIdlePercent.toFixed(1)}% of a core`,
    bytesText(size.controllerRssBytes),
  ]);
  const points = (cost: (size: AgentsScale) => number): GrowthPoint[] =>
    results.map((size) => ({ size: size.agents, cost: cost(size) }));
  return [
    'from the start of culvert apply, by agents; controller with its nats-server',
    ...aligned([head, ...rows]),
    exponents(
      'in force',
      points((size) => size.inForceMs.median),
    ),
    exponents(
      'controller CPU',
      points((size) => size.controllerCpuMsPerApply),
    ),
    exponents(
      'controller memory',
      points((size) => size.controllerRssBytes),
    ),
    '',
  ];
}

function workloadLines(results: readonly WorkloadsScale[]): string[] {
  if (results.length === 0) return [];
  const head = ['workloads', 'agent starts in', 'CPU', 'memory, 1 worker', '2 workers', 'registered in'];
  const rows = results.map((size) => [
    String(size.workloads),
    milliseconds(size.startMs),
    milliseconds(size.startCpuMs),
    bytesText(size.rssBytes[1]),
    bytesText(size.rssBytes[2]),
    milliseconds(size.applyMs),
  ]);
  const points = (cost: (size: WorkloadsScale) => number): GrowthPoint[] =>
    results.map((size) => ({ size: size.workloads, cost: cost(size) }));
  const [worker, agent] = [bytesPerWorkloadAndWorker(results), bytesPerWorkload(results)];
  return [
    'an agent by the workloads that it knows',
    ...aligned([head, ...rows]),
    exponents(
      'start',
      points((size) => size.startMs),
    ),
    exponents(
      'start CPU',
      points((size) => size.startCpuMs),
    ),
    exponents(
      'memory',
      points((size) => size.rssBytes[1]),
    ),
    ...(worker === null || agent === null
      ? []
      : [`each workload: ${bytesText(worker)} in a further worker, ${bytesText(agent)} in an agent with one`]),
    '',
  ];
}

function changeLines(results: readonly WorkloadsScale[]): string[] {
  if (results.length === 0) return [];
  const head = ['workloads', 'to each agent', 'to its disk', 'agent', 'controller'];
  const rows = results.map(({ workloads, change }) => [
    String(workloads),
    bytesText(change.bytesToAgent),
    bytesText(change.bytesToDisk),
    `${change.agentCpuMs.toFixed(1)} ms CPU`,
    `${milliseconds(change.controllerCpuMs)} CPU`,
  ]);
  const grow = (what: string, cost: (change: ChangeScale) => number): string =>
    exponents(
      what,
      results.map(({ workloads, change }) => ({ size: workloads, cost: cost(change) })),
    );
  return [
    'one workload changes',
    ...aligned([head, ...rows]),
    grow('bytes to each agent', ({ bytesToAgent }) => bytesToAgent),
    grow('agent CPU', ({ agentCpuMs }) => agentCpuMs),
    grow('controller CPU', ({ controllerCpuMs }) => controllerCpuMs),
    '',
  ];
}

function churnLines(results: readonly WorkloadsScale[]): string[] {
  const measured = results.flatMap(({ workloads, churn }) => (churn === null ? [] : [{ workloads, churn }]));
  if (measured.length === 0) return [];
  const head = ['workloads', 'changes', 'failed', 'roots', 'controller', 'agent', 'to each agent', 'to its disk'];
  const times = ['answered', 'p99', 'in force', 'p99'];
  const rows = measured.map(({ workloads, churn }) => [
    String(workloads),
    `${churn.changes} in ${milliseconds(churn.tookMs)}`,
    String(churn.failed),
    String(churn.roots),
    `${churn.controllerPercent.toFixed(1)}% of a core`,
    `${churn.agentPercent.toFixed(1)}% of a core`,
    `${bytesText(churn.agentBytesPerSecond)}/s`,
    `${bytesText(churn.agentDiskBytesPerSecond)}/s`,
    milliseconds(churn.answerMs.median),
    milliseconds(churn.answerMs.p99),
    milliseconds(churn.inForceMs.median),
    milliseconds(churn.inForceMs.p99),
  ]);
  return ['workloads change all the time', ...aligned([[...head, ...times], ...rows]), ''];
}

function exponents(what: string, points: readonly GrowthPoint[]): string {
  const texts = growthExponents(points).map((exponent) => (exponent === null ? '?' : exponent.toFixed(2)));
  return `growth of ${what}: size^${texts.join(', then size^')}`;
}

type GoalResult = { readonly id: ScaleGoalId; readonly figure: number; readonly limit: number; readonly met: boolean };

function goalOf(id: ScaleGoalId, figure: number | null | undefined): GoalResult[] {
  if (figure === null || figure === undefined) return [];
  return [{ id, figure, limit: scaleGoals[id].limit, met: isMet(scaleGoals[id], figure, 1) }];
}

/** Rising whole numbers, or none for `0`. Throws `BAD_OPTION`. */
export function sizesOf(text: string, option: string): number[] {
  if (text === '0') return [];
  const sizes = text.split(',').map(Number);
  if (sizes.every((size, at) => Number.isInteger(size) && size > (sizes[at - 1] ?? 0))) return sizes;
  const hint = 'write rising whole numbers with commas between them, such as 10,100,500';
  throw new CulvertError({ code: 'BAD_OPTION', message: `${option} ${text} cannot be used`, hint });
}

function milliseconds(value: number): string {
  return value >= 10_000 ? `${(value / 1000).toFixed(1)} s` : `${value.toFixed(0)} ms`;
}

function say(line: string): void {
  process.stderr.write(`# ${line}\n`);
}

function print(lines: readonly string[]): void {
  if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`);
}
