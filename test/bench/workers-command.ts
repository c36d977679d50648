import process from 'node:process';
import { Command } from 'commander';
import type { CaseId } from './case-ids.js';
import { countOption } from './bench-options.js';
import { valueText } from './figure-text.js';
import { machineText, thisMachine } from './machine.js';
import { aligned } from './report-table.js';
import { shortJson } from './report-json.js';
import { runBench } from './run-bench.js';
import { type Spread, spreadOf } from './spread.js';
import { type CaseSummary, medianOf } from './summary.js';
import { withPrograms } from './with-programs.js';

type Options = { json: boolean; rounds: string; seconds: string };

const caseIds: readonly CaseId[] = ['bulk-4', 'keepalive-256', 'newconn'];
const workerCounts = [1, 2] as const;

/** One case with one worker and with two; values in the case's unit. */
type Speedup = {
  readonly id: CaseId;
  readonly title: string;
  readonly unit: string;
  readonly one: Spread;
  readonly two: Spread;
  /** The same load without the mesh, which shows the machine's capacity. */
  readonly direct: Spread;
  /** Of the medians. */
  readonly speedup: number;
};

/**
 * `workers`: measures the gain from a second data-plane thread. Both workloads are on one host, so that the mesh consists of
 * one agent: with two hosts on one machine, two agents would share its cores.
 */
export function workersCommand(): Command {
  return new Command('workers')
    .description('One agent with one and with two workers, taking turns (needs root).')
    .option('--json', 'the last line of the standard output is JSON', false)
    .option('--rounds <n>', 'runs with each number of workers', '3')
    .option('--seconds <n>', 'length of one load', '3')
    .action(withPrograms(run));
}

async function run(options: Options): Promise<void> {
  const rounds = countOption(options.rounds, '--rounds');
  const seconds = countOption(options.seconds, '--seconds');
  const machine = await thisMachine();
  const runs: Record<(typeof workerCounts)[number], (readonly CaseSummary[])[]> = { 1: [], 2: [] };
  for (let round = 0; round < rounds; round++) {
    // They take turns, so that neither is always first after a pause.
    for (const workers of round % 2 === 0 ? workerCounts : workerCounts.toReversed()) {
      say(`round ${round + 1} of ${rounds}, workers: ${workers}`);
      const plan = { caseIds, rounds: 1, seconds, workers, isQuick: false, isSameHost: true };
      runs[workers].push(await runBench({ ...plan, adapters: [], engineArgs: [] }, () => {}));
    }
  }
  const cases = caseIds.map((id) => speedupOf(id, runs));
  process.stdout.write(`${[machineText(machine), '', ...table(cases)].join('\n')}\n`);
  if (options.json) process.stdout.write(`${shortJson({ cases, machine })}\n`);
}

function speedupOf(id: CaseId, runs: Readonly<Record<1 | 2, readonly (readonly CaseSummary[])[]>>): Speedup {
  const summaries = (workers: 1 | 2): CaseSummary[] =>
    runs[workers].flatMap((cases) => cases.filter((one) => one.id === id));
  const spread = (of: readonly CaseSummary[], kind: 'culvert' | 'direct'): Spread =>
    spreadOf(
      of.flatMap(
        ({ paths }) =>
          medianOf(
            paths.find((path) => path.kind === kind),
            'value',
          ) ?? [],
      ),
    );
  const [one, two] = [spread(summaries(1), 'culvert'), spread(summaries(2), 'culvert')];
  const direct = spread([...summaries(1), ...summaries(2)], 'direct');
  const { title = id, unit = '' } = summaries(1)[0] ?? {};
  return { id, title, unit, one, two, direct, speedup: two.median / one.median };
}

function table(cases: readonly Speedup[]): string[] {
  const text = ({ median, min, max }: Spread, unit: string): string =>
    `${valueText(median, unit)} (${valueText(min, unit)}–${valueText(max, unit)})`;
  const rows = cases.map(({ title, unit, one, two, direct, speedup }) => [
    `${title}, ${unit}`,
    ...[one, two, direct].map((spread) => text(spread, unit)),
    `${speedup.toFixed(2)} ×`,
  ]);
  return aligned([['case', '1 worker', '2 workers', 'direct', 'speed-up'], ...rows]);
}

function say(line: string): void {
  process.stderr.write(`# ${String(Math.round(process.uptime())).padStart(3)} s  ${line}\n`);
}
