import type { Log } from '../shared/log.js';

/** Closes what was opened, in reverse order. A failure is logged and the rest is closed all the same. */
export class ClosingStack implements AsyncDisposable {
  readonly #log: Log;
  readonly #closers: { readonly name: string; readonly close: () => unknown }[] = [];

  constructor(init: { readonly log: Log }) {
    this.#log = init.log;
  }

  push(name: string, close: () => unknown): void {
    this.#closers.push({ name, close });
  }

  /** Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (let next = this.#closers.pop(); next !== undefined; next = this.#closers.pop()) {
      try {
        await next.close();
      } catch (error) {
        this.#log.warn({ err: error, part: next.name }, 'could not close a part of the controller');
      }
    }
  }
}
