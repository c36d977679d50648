import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../shared/log.js';

/** nats-server has ten seconds to end before it is killed. */
const defaultCloseWithinMs = 15_000;

/**
 * Closes what was opened, in reverse order. A failure is logged and the rest is closed all the same; so is a part that does not
 * close in time, as when it waits for a disk that is gone.
 */
export class ClosingStack implements AsyncDisposable {
  readonly #log: Log;
  readonly #closeWithinMs: number;
  readonly #closers: { readonly name: string; readonly close: () => unknown }[] = [];

  constructor(init: { readonly log: Log; readonly closeWithinMs?: number }) {
    this.#log = init.log;
    this.#closeWithinMs = init.closeWithinMs ?? defaultCloseWithinMs;
  }

  push(name: string, close: () => unknown): void {
    this.#closers.push({ name, close });
  }

  /** Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (let next = this.#closers.pop(); next !== undefined; next = this.#closers.pop()) {
      try {
        await this.#inTime(next.name, Promise.resolve(next.close()));
      } catch (error) {
        this.#log.warn({ err: error, part: next.name }, 'could not close a part of the controller');
      }
    }
  }

  async #inTime(part: string, closing: Promise<unknown>): Promise<void> {
    const closed = new AbortController();
    const late = delay(this.#closeWithinMs, true, { signal: closed.signal }).catch(() => false);
    const isLate = await Promise.race([closing.then(() => false), late]).finally(() => closed.abort());
    if (isLate)
      this.#log.warn({ part, ms: this.#closeWithinMs }, 'a part of the controller does not close; going on without');
    closing.catch(() => undefined);
  }
}
