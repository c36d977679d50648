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
  /** Both workloads on one host; that has a section of its own. */
  readonly isSameHost: boolean;
};

/** Below the root of the repository. */
export const pictureFile = 'test/bench/results/ratios.svg';

/** Puts table and picture of a run into README.md. Throws when the README has no mark. */
export function writeReadme(summaries: readonly CaseSummary[], run: BenchRun): void {
  const text = readFileSync('README.md', 'utf8');
  writeFileSync('README.md', fillMeasured(text, summaries, run));
  if (run.isSameHost) return;
  mkdirSync(path.dirname(pictureFile), { recursive: true });
  writeFileSync(pictureFile, ratioPicture(summaries));
}

/** Pure part of {@link writeReadme}. */
export function fillMeasured(text: string, summaries: readonly CaseSummary[], run: BenchRun): string {
  // The only places where a figure of a benchmark stands in the README, and who wrote it.
  const mark = `<!-- measured: npm run bench${run.isSameHost ? ' -- --same-host' : ''} -->`;
  const end = '<!-- end of measured -->';
  const from = text.indexOf(mark);
  const to = text.indexOf(end, from);
  if (from < 0 || to < 0) throw new Error(`README.md has no mark ${mark}`);
  const where = `${machineText(run.machine)}; ${run.rounds} rounds of ${run.seconds} s, ${run.workers} workers on every side.`;
  const picture = `![Culvert beside other proxies, as ratios to the best of them](${pictureFile})`;
  const section = [mark, ...(run.isSameHost ? [] : [picture, '']), ratioMarkdown(summaries), '', where, ''];
  return `${text.slice(0, from)}${section.join('\n')}${text.slice(to)}`;
}
