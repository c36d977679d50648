import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';

/** `culvert-flows 000000000042\n`: of one length, so that each write replaces the last one whole. */
const pattern = /^culvert-flows (\d{12})\n$/;
const most = 999_999_999_999;

/**
 * How many connections the controller does not know of yet, in a file. The kernel keeps what was written when the process is
 * killed, so the next start can say how many were lost. Nothing is synced: after a power failure the number is an old one.
 * A disk that fails is logged once, and costs this number only.
 */
export class FlowTally {
  /** What the process before this one left: connections that are in no record. */
  readonly lostBefore: number;
  readonly #log: Log;
  readonly #path: string;
  /** Of `lostBefore`, until the controller has it. */
  #carried: number;
  readonly #openByWorker = new Map<number, number>();
  #file: number | null = null;
  #counted = 0;
  #written = -1;

  constructor({ path, log }: { readonly path: string; readonly log: Log }) {
    this.#path = path;
    this.#log = log;
    this.lostBefore = readTally(path);
    this.#carried = this.lostBefore;
    this.#try(() => {
      this.#file = openSync(path, 'w', 0o600);
    });
    this.#write();
  }

  /** Connections that were counted, and that no answer of the controller has confirmed. */
  setCounted(connections: number): void {
    this.#counted = connections;
    this.#write();
  }

  /** Open connections of a worker that it has not reported: a kill would lose them too. */
  setOpen(worker: number, connections: number): void {
    this.#openByWorker.set(worker, connections);
    this.#write();
  }

  /** The controller knows what was lost before. */
  settle(): void {
    this.#carried = 0;
    this.#write();
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
    const count = Math.min(most, this.#carried + this.#counted + open);
    if (count === this.#written) return;
    this.#try(() => {
      if (this.#file === null) return;
      writeSync(this.#file, `culvert-flows ${String(count).padStart(12, '0')}\n`, 0);
      this.#written = count;
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

function readTally(path: string): number {
  try {
    return Number(pattern.exec(readFileSync(path, 'utf8'))?.[1] ?? 0);
  } catch {
    return 0;
  }
}
