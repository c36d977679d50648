import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { KubernetesError } from './kubernetes-error.js';

/** A server that does not answer is not spared by a longer pause, and when it is back, people wait for what is written. */
const unansweredLongestMs = 5000;

/**
 * When one that writes to the API server may ask it again: the pauses are longer and longer while it refuses, and up to
 * {@link unansweredLongestMs} while it is away. Each problem is one line of the log.
 */
export class WritePauses {
  readonly #what: string;
  readonly #log: Log;
  readonly #firstMs: number;
  readonly #longestMs: number;
  readonly #elapsedMs: () => number;
  #failures = 0;
  #wasAnswered = true;
  /** Since the last success. A server that answers now and then is spared all the same. */
  #cameBack = false;
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
    this.#cameBack = false;
    this.#failures = 0;
    this.#problem = null;
  }

  failed(error: unknown): void {
    const isAnswered = !(error instanceof KubernetesError) || error.status !== null;
    // One that is back may refuse a moment longer, which has nothing to do with how long it was away.
    if (isAnswered && !this.#wasAnswered && !this.#cameBack) {
      this.#failures = 0;
      this.#cameBack = true;
    }
    this.#wasAnswered = isAnswered;
    const pauseMs = this.pauseMs(this.#failures++);
    this.#notBeforeMs = this.#elapsedMs() + (isAnswered ? pauseMs : Math.min(pauseMs, unansweredLongestMs));
    const problem = `${this.#what} cannot be written: ${describeError(error)}`;
    if (problem !== this.#problem) this.#log.warn({ err: error }, `${this.#what} cannot be written`);
    this.#problem = problem;
  }
}
