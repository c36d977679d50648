import { writeFileSync } from 'node:fs';
import process from 'node:process';
import { CulvertError } from '../../shared/errors.js';
import type { DeclaredPath } from '../lab/declared-path.js';
import type { Adapter } from './adapter-file.js';
import { type BenchOptions, chosenCases, countOption, usualCases } from './bench-options.js';
import { installAdapters, readAdapters } from './comparators.js';
import { isBusy, machineText, thisMachine } from './machine.js';
import { jsonCases, shortJson } from './report-json.js';
import { detailLines, ratioLines } from './report-table.js';
import { runBench } from './run-bench.js';
import { writeMeasured } from './measured-sections.js';

/** `npm run bench`: every case on every path, then the tables; JSON, picture and documents on request. */
export async function benchCommand(options: BenchOptions, programs: DeclaredPath): Promise<void> {
  const caseIds = chosenCases(options);
  const { quick: isQuick, sameHost: isSameHost } = options;
  if (options.writeReadme && caseIds.length < usualCases(options).length) {
    const hint = 'leave --only out, or --write-readme';
    throw new CulvertError({ code: 'BAD_OPTION', message: 'The documents show every case, not some of them', hint });
  }
  const plan = {
    caseIds,
    isQuick,
    isSameHost,
    rounds: countOption(options.rounds ?? (isQuick ? '1' : '3'), '--rounds'),
    seconds: countOption(options.seconds ?? (isQuick ? '1' : '3'), '--seconds'),
    workers: countOption(options.workers, '--workers'),
    engineArgs: options.engine === undefined ? [] : ['--http2-engine', options.engine],
  };
  const machine = await thisMachine();
  const wanted = chosenAdapters(readAdapters(options.adapter), options.comparators, isQuick);
  const adapters = (await installAdapters(wanted, programs, say)).filter(({ cases, without }) =>
    caseIds.some((id) => (cases?.includes(id) ?? true) && without[id] === undefined),
  );
  const startedAt = performance.now();
  const summaries = await runBench({ ...plan, adapters }, say);
  const minutes = (performance.now() - startedAt) / 60_000;
  const { rounds, seconds, workers } = plan;
  const run = { machine, rounds, seconds, workers, isSameHost, minutes };
  print([
    machineText(machine),
    ...(isBusy(machine)
      ? ['The machine was busy with something else before the run: these figures are not worth much.']
      : []),
    `${plan.rounds} rounds of ${plan.seconds} s, ${plan.workers} workers on every side; ${minutes.toFixed(1)} minutes`,
    '',
    ...detailLines(summaries),
    ...ratioLines(summaries),
  ]);
  const report = { cases: jsonCases(summaries), run };
  if (options.output !== undefined) writeFileSync(options.output, `${shortJson(report)}\n`);
  if (options.writeReadme) writeMeasured(summaries, run);
  if (options.json) print([shortJson(report)]);
  const failed = summaries.filter(({ paths }) => paths.some(({ kind, failures }) => kind === 'culvert' && failures[0]));
  if (failed.length > 0) {
    const message = `Culvert failed in ${failed.map(({ id }) => id).join(', ')}; what it said stands in the tables.`;
    throw new CulvertError({ code: 'BENCH_FAILED', message });
  }
}

/** A short run compares only with HAProxy: each pair takes time, and stunnel's handshakes alone exceed the run's time. */
const notWhenQuick: readonly string[] = ['nginx', 'stunnel'];

function chosenAdapters(all: readonly Adapter[], names: string | undefined, isQuick: boolean): Adapter[] {
  if (names === undefined) return all.filter(({ name }) => !isQuick || !notWhenQuick.includes(name));
  return names.split(',').map((text) => {
    const found = all.find(({ name }) => name === text.trim());
    if (found !== undefined) return found;
    const hint = `there are ${all.map(({ name }) => name).join(', ')}`;
    throw new CulvertError({ code: 'BAD_OPTION', message: `--comparators: there is no "${text}"`, hint });
  });
}

function say(line: string): void {
  process.stderr.write(`# ${String(Math.round(process.uptime())).padStart(3)} s  ${line}\n`);
}

function print(lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`);
}
