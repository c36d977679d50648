import { availableParallelism, loadavg } from 'node:os';
import process from 'node:process';
import { Command, Option } from 'commander';
import { CulvertError } from '../../shared/errors.js';
import { aligned } from './aligned.js';
import { measureDecisions, type DecisionTimes } from './decision-times.js';
import { measureEnforcement, type EnforcementTimes, type Spread } from './enforcement-times.js';
import { ruleDocuments } from './rule-documents.js';
import { measureRoutes, type RouteTimes } from './route-times.js';
import { ruleShapes } from './rule-shapes.js';
import { measureShapes, shapeTable } from './shape-table.js';
import { withPrograms } from './with-programs.js';

type Options = {
  json: boolean;
  rules: string;
  workloads: string;
  rounds: string;
  workers: string;
  only?: 'shapes' | 'decisions' | 'routes';
};

const endpointsOfRoute = 1000;

/** `rules`: measures a decision among many rules, a choice among many endpoints, and how soon a changed rule is in force. */
export function rulesCommand(): Command {
  return (
    new Command('rules')
      .description('Time of a decision among many rules, and from `culvert apply` to in force (needs root).')
      .option('--json', 'the last line of the standard output is JSON', false)
      .addOption(
        new Option(
          '--only <part>',
          'shapes of rules, decisions among many, or choices of an endpoint: without a mesh and without root',
        ).choices(['shapes', 'decisions', 'routes']),
      )
      .option('--rules <n>', 'rules of the mesh', '10000')
      .option('--workloads <n>', 'workloads of the mesh', '5000')
      .option('--rounds <n>', 'denials and allowances of one connection, each', '8')
      .option('--workers <n>', 'data-plane workers of the agent', '2')
      // One part alone starts nothing.
      .action((options: Options) => (options.only === undefined ? withPrograms(run)(options) : run(options)))
  );
}

async function run(options: Options): Promise<void> {
  const [rules, workloads] = [count(options.rules, '--rules'), count(options.workloads, '--workloads')];
  const [rounds, workers] = [count(options.rounds, '--rounds'), count(options.workers, '--workers')];
  // Other load on the machine affects the figures.
  const machine = { cpus: availableParallelism(), loadAverage: loadavg()[0] ?? 0 };
  printLines([`${machine.cpus} CPUs, load average at the start ${machine.loadAverage.toFixed(1)}`, '']);
  if (options.only === 'routes') {
    const route = measureRoutes(endpointsOfRoute);
    printLines(routeTable(route));
    if (options.json) printLines([jsonLine({ routeP99Us: route.p99Us, route, machine })]);
    return;
  }
  const shapes = options.only === 'decisions' ? [] : measureShapes(ruleShapes);
  printLines(shapeTable(shapes));
  if (options.only === 'shapes') {
    if (options.json) printLines([jsonLine({ shapes, machine })]);
    return;
  }
  const growth = [rules / 100, rules / 10, rules].map(Math.ceil).map((number) => {
    const times = measureDecisions(ruleDocuments({ rules: number, workloads, node: 'node1' }));
    return { rules: number, ...times };
  });
  printLines(decisionTable(growth, workloads));
  if (options.only === 'decisions') {
    if (options.json) printLines([jsonLine({ growth, machine })]);
    return;
  }
  const route = measureRoutes(endpointsOfRoute);
  printLines(routeTable(route));
  const documents = ruleDocuments({ rules, workloads, node: 'node1' });
  const enforcement = await measureEnforcement({ documents, rounds, workers });
  printLines(enforcementTable(enforcement, rules, workloads));
  if (!options.json) return;
  const whole = growth.at(-1);
  const summary = {
    decisionP99Us: whole?.p99Us,
    routeP99Us: route.p99Us,
    applyToEnforcedMs: enforcement.enforcedMs.max,
    rules,
    workloads,
    machine,
    decision: whole,
    growth,
    shapes,
    route,
    enforcement,
  };
  printLines([jsonLine(summary)]);
}

function jsonLine(summary: object): string {
  return JSON.stringify(summary, (_, value: unknown) => (typeof value === 'number' ? rounded(value) : value));
}

function decisionTable(growth: readonly (DecisionTimes & { rules: number })[], workloads: number): string[] {
  const head = ['rules', 'mean', 'p50', 'p99', 'p99.9', 'cold p50', 'cold p99', 'prepare', 'snapshot'];
  const rows = growth.map((times) => [
    String(times.rules),
    ...[times.meanUs, times.p50Us, times.p99Us, times.p999Us, times.coldP50Us, times.coldP99Us].map(
      (value) => `${value.toFixed(2)} µs`,
    ),
    `${times.prepareMs.toFixed(0)} ms`,
    `${(times.snapshotBytes / 1024).toFixed(0)} KiB`,
  ]);
  const [first] = growth;
  const method =
    first === undefined
      ? ''
      : `${first.decisions} decisions each, timed one by one less ${first.timerUs.toFixed(2)} µs for the clock; ` +
        `cold: ${first.coldPairs} pairs of workloads not seen before`;
  return [`one decision, ${workloads} workloads`, ...aligned([head, ...rows]), method, ''];
}

function routeTable({ endpoints, choices, p50Us, p99Us, p999Us, ejected }: RouteTimes): string[] {
  const head = ['endpoints', 'ejected', 'p50', 'p99', 'p99.9'];
  const row = [String(endpoints), String(ejected), ...[p50Us, p99Us, p999Us].map((value) => `${value.toFixed(2)} µs`)];
  const what = 'one choice of an endpoint, with a route among two subsets, zones and ejection';
  return [what, ...aligned([head, row]), `${choices} choices, timed one by one as above`, ''];
}

function enforcementTable(times: EnforcementTimes, rules: number, workloads: number): string[] {
  const row = (what: string, { p50, max }: Spread): string[] => [what, `${p50.toFixed(0)} ms`, `${max.toFixed(0)} ms`];
  const rows = [
    ['from the start of culvert apply', 'median', 'slowest'],
    row('the command has ended', times.commandMs),
    row('in force on every worker', times.enforcedMs),
    row('rollout complete at the controller', times.rolloutCompleteMs),
    row('forbidden open connection reset', times.liveConnectionGoneMs),
    row('new connection gets through', times.newConnectionAllowedMs),
  ];
  const what =
    `one rule changed among ${rules}, ${workloads} workloads, ${times.workers} workers, ${times.rounds} changes; ` +
    `the first apply of everything took ${(times.wholeSetMs / 1000).toFixed(1)} s`;
  return [...aligned(rows), what];
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

function count(text: string, option: string): number {
  if (/^[1-9]\d{0,5}$/.test(text)) return Number(text);
  throw new CulvertError({
    code: 'BAD_OPTION',
    message: `${option} ${text} is not a whole number from 1`,
    hint: 'write a number from 1',
  });
}

function printLines(lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`);
}
