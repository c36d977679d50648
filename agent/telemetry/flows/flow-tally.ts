import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { maxLostRuns, type LostRun } from '../../../shared/wire/flows.js';

/**
 * A line for each process: `culvert-flows 000000000042 000000000007 0123456789abcdef\n`. They are of one length, so that each
 * write replaces the line whole. The first is that of the process that runs.
 */
const line = /^culvert-flows (\d{12}) (\d{12}) ([0-9a-f]{16})$/;
/** Of an earlier version, which did not say what it had reported. */
const earlierLine = /^culvert-flows (\d{12})$/;
const most = 999_999_999_999;

/**
 * How many connections are in no stored batch yet, in a file. The kernel keeps what was written when the process is killed, so
 * the next start can say how many were lost. Nothing is synced: after a power failure the number is an old one. A disk that
 * fails is logged once, and costs this number only.
 */
export class FlowTally {
  /** Names this process in reports and batches. */
  readonly run = randomBytes(8).toString('hex');
  /** What the processes before this one left: connections that were in no batch and in no report. */
  readonly lostBefore: number;
  /** Those processes, with what the controller may have from their reports. */
  readonly lostRuns: readonly LostRun[];
  readonly #log: Log;
  readonly #path: string;
  readonly #openByWorker = new Map<number, number>();
  #file: number | null = null;
  #counted = { unconfirmed: 0, unstored: 0 };
  #written = '';

  constructor({ path, log }: { readonly path: string; readonly log: Log }) {
    this.#path = path;
    this.#log = log;
    const { runs, unreported } = readTally(path);
    this.lostRuns = runs;
    this.lostBefore = runs.reduce((sum, each) => sum + each.unreported, unreported);
    this.#try(() => {
      const file = openSync(path, 'w', 0o600);
      this.#file = file;
      const carried = [lineOf(unreported, unreported, '0'.repeat(16)), ...runs.map(lineOfRun)];
      writeSync(file, [lineOf(0, 0, this.run), ...(unreported > 0 ? carried : carried.slice(1))].join(''), 0);
    });
    this.#write();
  }

  /** Connections that were counted: `unconfirmed` are in no report and no batch, `unstored` in no batch. */
  setCounted({ unconfirmed, unstored }: { readonly unconfirmed: number; readonly unstored: number }): void {
    this.#counted = { unconfirmed, unstored };
    this.#write();
  }

  /** Open connections of a worker that it has not reported: a kill would lose them too. */
  setOpen(worker: number, connections: number): void {
    this.#openByWorker.set(worker, connections);
    this.#write();
  }

  /** The controller knows what was lost before. */
  settle(): void {
    this.#try(() => {
      if (this.#file !== null) ftruncateSync(this.#file, lineOf(0, 0, this.run).length);
    });
  }

  close(): void {
    this.#openByWorker.clear();
    this.#write();
    this.#try(() => {
      if (this.#file !== null) closeSync(this.#file);
    });
    this.#file = null;
  }

  #write(): void {
    const open = [...this.#openByWorker.values()].reduce((sum, count) => sum + count, 0);
    const text = lineOf(this.#counted.unstored + open, this.#counted.unconfirmed + open, this.run);
    if (text === this.#written) return;
    this.#try(() => {
      if (this.#file === null) return;
      writeSync(this.#file, text, 0);
      this.#written = text;
    });
  }

  #try(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#file = null;
      this.#log.warn(
        { path: this.#path, problem: describeError(error) },
        'cannot note how many connections have no flow record yet: a kill of the agent would lose them uncounted',
      );
    }
  }
}

function lineOf(unstored: number, unreported: number, run: string): string {
  const [first, second] = [unstored, unreported].map((count) => String(Math.min(most, count)).padStart(12, '0'));
  return `culvert-flows ${first} ${second} ${run}\n`;
}

function lineOfRun({ run, connections, unreported }: LostRun): string {
  return lineOf(connections, unreported, run);
}

/** `unreported`: of processes that no record names any more. */
function readTally(path: string): { readonly runs: readonly LostRun[]; readonly unreported: number } {
  const runs: LostRun[] = [];
  let unreported = 0;
  for (const text of linesOf(path)) {
    const [, first = '0', second = first, run] = line.exec(text) ?? earlierLine.exec(text) ?? [];
    const each = { connections: Number(first), unreported: Number(second) };
    if (run === undefined || /^0+$/.test(run) || runs.length === maxLostRuns) unreported += each.unreported;
    else if (each.connections > 0) runs.push({ run, ...each });
  }
  return { runs, unreported };
}

/** Without one that was cut short. */
function linesOf(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').slice(0, -1);
  } catch {
    return [];
  }
}
