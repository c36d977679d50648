import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import type { Log } from '../../shared/log.js';

const lookEveryMs = 500;
/** Between two times that the file is written while nothing changes. */
const writeEveryMs = 1000;

/**
 * A file that is there while this very process serves, for a supervisor that starts the next one next to it: a port of the host
 * would be answered by either of the two. It is one line of three numbers: when it was written, in seconds since the machine
 * booted (as in /proc/uptime), the id of this process, and when that began (field 22 of /proc/PID/stat). The thread that
 * controls the host writes it every second, so one that is older says that this thread hangs, or that the process has
 * ended. It goes with `dispose`, and one that a killed process left goes at the start.
 */
export class ReadyFile implements Disposable {
  readonly #path: string;
  readonly #isReady: () => boolean;
  readonly #log: Log;
  readonly #process = `${process.pid} ${startOf(process.pid)}`;
  /** As `performance.now()` counts; null: there is no file. */
  #writtenAtMs: number | null = null;
  #problem: string | null = null;
  readonly #timer: NodeJS.Timeout;

  constructor(init: { readonly path: string; readonly isReady: () => boolean; readonly log: Log }) {
    this.#path = init.path;
    this.#isReady = init.isReady;
    this.#log = init.log;
    this.#try(() => rmSync(this.#path, { force: true }));
    this.#timer = setInterval(() => this.#look(), lookEveryMs);
    this.#timer.unref();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#try(() => rmSync(this.#path, { force: true }));
  }

  #look(): void {
    if (!this.#isReady()) {
      if (this.#writtenAtMs !== null && this.#try(() => rmSync(this.#path, { force: true }))) this.#writtenAtMs = null;
      return;
    }
    const nowMs = performance.now();
    if (this.#writtenAtMs !== null && nowMs - this.#writtenAtMs < writeEveryMs) return;
    if (this.#try(() => this.#write())) this.#writtenAtMs = nowMs;
  }

  /** In one step: a reader never sees a part of it. */
  #write(): void {
    const [seconds = ''] = readFileSync('/proc/uptime', 'utf8').split('.');
    const fresh = `${this.#path}.new`;
    writeFileSync(fresh, `${seconds} ${this.#process}\n`);
    renameSync(fresh, this.#path);
  }

  #try(step: () => void): boolean {
    try {
      step();
      this.#problem = null;
      return true;
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#problem) this.#log.error({ err: error, path: this.#path }, 'the ready file cannot be kept');
      this.#problem = message;
      return false;
    }
  }
}

/** In ticks since the machine booted. A later process with the same id began later. */
function startOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}
