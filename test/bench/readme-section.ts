import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type Machine, machineText } from './machine.js';
import { ratioMarkdown } from './report-table.js';
import { ratioPicture } from './ratio-picture.js';
import type { CaseSummary } from './summary.js';

export type BenchRun = {
  readonly machine: Machine;
  readonly rounds: number;
  readonly seconds: number;
  readonly workers: number;
};

/** The only place where a figure of a benchmark stands in the README, and who wrote it. */
const markPattern = /<!-- measured: npm run bench -->\n[\s\S]*?<!-- end of measured -->/;
/** Below the root of the repository. */
export const pictureFile = 'test/bench/results/ratios.svg';

/** Puts table and picture of a run into README.md. Throws when the README has no mark. */
export function writeReadme(summaries: readonly CaseSummary[], run: BenchRun): void {
  const text = readFileSync('README.md', 'utf8');
  writeFileSync('README.md', fillMeasured(text, summaries, run));
  mkdirSync(path.dirname(pictureFile), { recursive: true });
  writeFileSync(pictureFile, ratioPicture(summaries));
}

/** Pure part of {@link writeReadme}. */
export function fillMeasured(text: string, summaries: readonly CaseSummary[], run: BenchRun): string {
  if (!markPattern.test(text)) throw new Error('README.md has no mark <!-- measured: npm run bench -->');
  const where = `${machineText(run.machine)}; ${run.rounds} rounds of ${run.seconds} s, ${run.workers} workers on every side.`;
  const section = [
    '<!-- measured: npm run bench -->',
    `![Culvert beside other proxies, as ratios to the best of them](${pictureFile})`,
    '',
    ratioMarkdown(summaries),
    '',
    where,
    '<!-- end of measured -->',
  ].join('\n');
  return text.replace(markPattern, () => section);
}
