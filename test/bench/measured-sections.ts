import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { CaseId } from './case-ids.js';
import { type Machine, machineText } from './machine.js';
import { ratioMarkdown } from './report-table.js';
import { ratioPicture } from './ratio-picture.js';
import type { CaseSummary } from './summary.js';

export type BenchRun = {
  readonly machine: Machine;
  readonly rounds: number;
  readonly seconds: number;
  readonly workers: number;
  /** Both workloads on one host; that has a section of its own. */
  readonly isSameHost: boolean;
};

/** Below the root of the repository. */
const pictureFile = 'test/bench/results/ratios.svg';
/** The full tables, of two hosts and of one. */
export const tablesFile = 'deploy/docs/benchmarks.md';
/** What the README shows of two hosts. */
const shortCases: readonly CaseId[] = ['bulk-4', 'keepalive-32', 'newconn'];
const shortMark = 'npm run bench, three cases';

/** Puts the tables of a run into the benchmarks' document and, of two hosts, picture and three rows into README.md. */
export function writeMeasured(summaries: readonly CaseSummary[], run: BenchRun): void {
  writeFileSync(tablesFile, fillTables(readFileSync(tablesFile, 'utf8'), summaries, run));
  if (run.isSameHost) return;
  writeFileSync('README.md', fillReadme(readFileSync('README.md', 'utf8'), summaries, run));
  mkdirSync(path.dirname(pictureFile), { recursive: true });
  writeFileSync(pictureFile, ratioPicture(summaries));
}

/** Throws when the text has no mark for the run. */
export function fillTables(text: string, summaries: readonly CaseSummary[], run: BenchRun): string {
  const mark = `npm run bench${run.isSameHost ? ' -- --same-host' : ''}`;
  const head = run.isSameHost ? [] : [pictureLink(path.relative(path.dirname(tablesFile), pictureFile)), ''];
  return filled(text, mark, [...head, ratioMarkdown(summaries), '', conditionsText(run)]);
}

/** Throws when the text has no mark. */
export function fillReadme(text: string, summaries: readonly CaseSummary[], run: BenchRun): string {
  const shown = summaries.filter(({ id }) => (shortCases as readonly string[]).includes(id));
  return filled(text, shortMark, [pictureLink(pictureFile), '', ratioMarkdown(shown), '', conditionsText(run)]);
}

/** The marks are the only places where a figure of a benchmark stands, and say which command wrote it. */
function filled(text: string, title: string, lines: readonly string[]): string {
  const mark = `<!-- measured: ${title} -->`;
  const end = '<!-- end of measured -->';
  const from = text.indexOf(`${mark}\n`);
  const to = text.indexOf(end, from);
  if (from < 0 || to < 0) throw new Error(`there is no mark ${mark}`);
  return `${text.slice(0, from)}${[mark, ...lines, ''].join('\n')}${text.slice(to)}`;
}

function pictureLink(file: string): string {
  return `![Culvert and other proxies, as ratios to the best of them](${file})`;
}

function conditionsText(run: BenchRun): string {
  return `${machineText(run.machine)}; ${run.rounds} rounds of ${run.seconds} s, ${run.workers} workers on every side.`;
}
