import { randomBytes } from 'node:crypto';
import { closeSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs';
import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import type { LostRun } from '../../../shared/wire/flows.js';
import { thisProcess, type ProcessMark } from '../../thread/process-mark.js';
import { lineOf, linesOfLost, ownerLine, readLeftTallies } from './left-tallies.js';

/**
 * How many connections are in no stored batch yet, in a file of this process. The kernel keeps what was written when the
 * process is killed, so the next start can say how many were lost; it takes over the files of processes that have ended, and
 * leaves that of an agent which still drains its connections and reports them itself. Nothing is synced: after a power failure
 * the number is an old one. A disk that fails is logged once, and costs this number only.
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
  readonly #owner: ProcessMark;
  readonly #openByWorker = new Map<number, number>();
  #file: number | null = null;
  #counted = { unconfirmed: 0, unstored: 0 };
  #hasSettled: boolean;
  #written = '';

  /**
   * Files are `<path>.<run>`. `hasPredecessor`: another agent runs with this state directory, perhaps one of an earlier version,
   * whose file does not say which process writes it. `owner`: the process that ends when this tally ends.
   */
  constructor(init: {
    readonly path: string;
    readonly log: Log;
    readonly hasPredecessor: boolean;
    readonly owner?: ProcessMark;
  }) {
    this.#path = `${init.path}.${this.run}`;
    this.#log = init.log;
    this.#owner = init.owner ?? thisProcess();
    const { files, runs, unreported } = readLeftTallies(init.path, init);
    this.lostRuns = runs;
    this.lostBefore = runs.reduce((sum, each) => sum + each.unreported, unreported);
    this.#hasSettled = runs.length === 0 && unreported === 0;
    this.#try(() => {
      this.#file = openSync(this.#path, 'wx', 0o600);
      writeSync(this.#file, this.#head() + linesOfLost({ runs, unreported }), 0);
      // They are in the file of this process now. A kill in between counts them twice rather than never.
      for (const file of files) rmSync(file, { force: true });
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
      if (this.#file !== null) ftruncateSync(this.#file, this.#head().length);
      this.#hasSettled = true;
    });
  }

  /** The file stays when it has something to say to the next start. */
  close(): void {
    this.#openByWorker.clear();
    this.#write();
    this.#try(() => {
      if (this.#file === null) return;
      closeSync(this.#file);
      const { unconfirmed, unstored } = this.#counted;
      if (this.#hasSettled && unconfirmed === 0 && unstored === 0) rmSync(this.#path, { force: true });
    });
    this.#file = null;
  }

  /** Of one length, whatever is counted. */
  #head(): string {
    return lineOf(0, 0, this.run) + ownerLine(this.#owner);
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
