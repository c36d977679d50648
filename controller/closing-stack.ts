import type { Log } from '../shared/log.js';

/** What was opened, closed in the opposite order. One that fails is logged and does not keep the others open. */
export class ClosingStack implements AsyncDisposable {
  readonly #log: Log;
  readonly #closers: { readonly name: string; readonly close: () => unknown }[] = [];

  constructor(init: { readonly log: Log }) {
    this.#log = init.log;
  }

  push(name: string, close: () => unknown): void {
    this.#closers.push({ name, close });
  }

  /** Safe to call twice: nothing is closed again. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (let next = this.#closers.pop(); next !== undefined; next = this.#closers.pop()) {
      try {
        await next.close();
      } catch (error) {
        this.#log.warn({ err: error, part: next.name }, 'a part of the controller could not be closed');
      }
    }
  }
}
