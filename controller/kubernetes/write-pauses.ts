import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';

/**
 * When one that writes to the API server may ask it again: the pauses are longer and longer while it refuses, or is away.
 * Each problem is one line of the log.
 */
export class WritePauses {
  readonly #what: string;
  readonly #log: Log;
  readonly #firstMs: number;
  readonly #longestMs: number;
  readonly #elapsedMs: () => number;
  #failures = 0;
  #notBeforeMs = 0;
  #problem: string | null = null;

  constructor(init: {
    /** What is written, in the plural: `events`. */
    readonly what: string;
    readonly log: Log;
    readonly firstMs: number;
    readonly longestMs: number;
    /** Of a clock that never goes back. */
    readonly elapsedMs: () => number;
  }) {
    this.#what = init.what;
    this.#log = init.log;
    this.#firstMs = init.firstMs;
    this.#longestMs = init.longestMs;
    this.#elapsedMs = init.elapsedMs;
  }

  /** Why nothing is written; null: it is, or will be soon. */
  get problem(): string | null {
    return this.#problem;
  }

  get isPausing(): boolean {
    return this.#elapsedMs() < this.#notBeforeMs;
  }

  /** The pause after one more failure; `failures` came right before it. */
  pauseMs(failures: number): number {
    return Math.min(this.#longestMs, this.#firstMs * 2 ** Math.min(failures, 16));
  }

  succeeded(): void {
    this.#failures = 0;
    this.#problem = null;
  }

  failed(error: unknown): void {
    this.#notBeforeMs = this.#elapsedMs() + this.pauseMs(this.#failures++);
    const problem = `${this.#what} cannot be written: ${describeError(error)}`;
    if (problem !== this.#problem) this.#log.warn({ err: error }, `${this.#what} cannot be written`);
    this.#problem = problem;
  }
}
