import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { maxLostRuns, type LostRun } from '../../../shared/wire/flows.js';
import { isRunning, type ProcessMark } from '../../thread/process-mark.js';

/**
 * A line for each process: `culvert-flows 000000000042 000000000007 0123456789abcdef\n`. They are of one length, so that each
 * write replaces the line whole. The first is that of the process whose file it is; the others are of processes before it.
 */
const line = /^culvert-flows (\d{12}) (\d{12}) ([0-9a-f]{16})$/;
/** Of an earlier version, which did not say what it had reported. */
const earlierLine = /^culvert-flows (\d{12})$/;
/** The process that writes the file. */
const owner = /^culvert-owner (.+)$/;
const most = 999_999_999_999;
const noRun = '0'.repeat(16);

export type Lost = {
  readonly runs: readonly LostRun[];
  /** Of processes that no line names any more. */
  readonly unreported: number;
};

/** What ended processes left, the newest first, and the files that say it. `path` as in FlowTally. */
export function readLeftTallies(
  path: string,
  { hasPredecessor }: { readonly hasPredecessor: boolean },
): Lost & { readonly files: readonly string[] } {
  const runs: LostRun[] = [];
  const files: string[] = [];
  let unreported = 0;
  for (const file of filesAt(path)) {
    const lines = linesOf(file);
    if (file === path ? hasPredecessor : isOwned(lines, hasPredecessor)) continue;
    files.push(file);
    for (const text of lines) {
      const [, first = '0', second = first, run] = line.exec(text) ?? earlierLine.exec(text) ?? [];
      const each = { connections: Number(first), unreported: Number(second) };
      if (run === undefined || run === noRun || runs.length === maxLostRuns) unreported += each.unreported;
      else if (each.connections > 0) runs.push({ run, ...each });
    }
  }
  return { runs, unreported, files };
}

export function lineOf(unstored: number, unreported: number, run: string): string {
  const [first, second] = [unstored, unreported].map((count) => String(Math.min(most, count)).padStart(12, '0'));
  return `culvert-flows ${first} ${second} ${run}\n`;
}

export function ownerLine(mark: ProcessMark): string {
  return `culvert-owner ${mark}\n`;
}

/** Empty when nothing is lost. */
export function linesOfLost({ runs, unreported }: Lost): string {
  const unnamed = unreported > 0 ? [lineOf(unreported, unreported, noRun)] : [];
  return [...unnamed, ...runs.map((each) => lineOf(each.connections, each.unreported, each.run))].join('');
}

/** `path` itself is that of an earlier version, which had one file for all processes. */
function filesAt(path: string): string[] {
  const prefix = `${basename(path)}.`;
  try {
    const names = readdirSync(dirname(path)).filter((name) => name === basename(path) || name.startsWith(prefix));
    return (
      names
        .map((name) => join(dirname(path), name))
        // One that goes away meanwhile is that of an agent that reported everything.
        .map((file) => ({ file, atMs: statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0 }))
        .toSorted((a, b) => b.atMs - a.atMs)
        .map(({ file }) => file)
    );
  } catch {
    return [];
  }
}

/** A process in another container cannot be looked at: it has not ended while an agent runs with this state directory. */
function isOwned(lines: readonly string[], hasPredecessor: boolean): boolean {
  const mark = lines.map((text) => owner.exec(text)?.[1]).find((each) => each !== undefined);
  return mark !== undefined && (isRunning(mark) ?? hasPredecessor);
}

/** Without one that was cut short. */
function linesOf(file: string): string[] {
  try {
    return readFileSync(file, 'utf8').split('\n').slice(0, -1);
  } catch {
    return [];
  }
}
