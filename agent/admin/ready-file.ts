import { rmSync, writeFileSync } from 'node:fs';
import type { Log } from '../../shared/log.js';

const lookEveryMs = 500;

/**
 * A file that is there while this very process serves, for a supervisor that starts the next one next to it: a port of the host
 * would be answered by either of the two. It goes with `dispose`, and a file that a killed process left goes at the start.
 */
export class ReadyFile implements Disposable {
  readonly #path: string;
  readonly #isReady: () => boolean;
  readonly #log: Log;
  #isThere = false;
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
    const isReady = this.#isReady();
    if (isReady === this.#isThere) return;
    const isDone = this.#try(() => {
      if (isReady) writeFileSync(this.#path, '');
      else rmSync(this.#path, { force: true });
    });
    if (isDone) this.#isThere = isReady;
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
