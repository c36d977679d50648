import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';

const retryMs = 1000;

/**
 * An endpoint that comes to listen when it can. Workloads are served without it, so an address that another process has is a
 * {@link problem} and is tried again, and never ends the agent.
 */
export class ListeningAttempts {
  readonly #listen: (keptFd: number | undefined) => Promise<void>;
  readonly #log: Log;
  #problem: string | null = null;
  #timer: NodeJS.Timeout | null = null;
  #attempt: Promise<unknown> | null = null;
  #isClosed = false;

  /** `listen` listens on the descriptor, which becomes its own, or on an address; it is called until it resolves. */
  constructor(init: { readonly listen: (keptFd: number | undefined) => Promise<void>; readonly log: Log }) {
    this.#listen = init.listen;
    this.#log = init.log;
  }

  /** Why it does not listen; null: it does. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Listens, now or later. Resolves with why not now; null: it listens. Never rejects. */
  async start(keptFd: number | undefined): Promise<unknown> {
    return await (this.#attempt ??= this.#try(keptFd).finally(() => (this.#attempt = null)));
  }

  /** Tries now, unless it listens. Never rejects. */
  async retry(): Promise<void> {
    if (this.#problem !== null && !this.#isClosed) await this.start(undefined);
  }

  /** No attempt begins from here on. */
  stop(): void {
    this.#isClosed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }

  async #try(keptFd: number | undefined): Promise<unknown> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    try {
      await this.#listen(keptFd);
      if (this.#problem !== null) this.#log.info({ before: this.#problem }, 'the endpoint listens now');
      this.#problem = null;
      return null;
    } catch (error) {
      const problem = describeError(error);
      if (problem !== this.#problem) this.#log.error({ problem }, 'an endpoint does not listen; retrying');
      this.#problem = problem;
      if (!this.#isClosed) this.#timer = setTimeout(() => void this.retry(), retryMs).unref();
      return error;
    }
  }
}
