import { sourceOf } from '../../shared/source-of.js';

/** How many sources are tracked. Beyond it the oldest is dropped, which bounds memory. */
const maxSources = 10_000;

/**
 * Counts failures per source and says how long a source has to wait.
 */
export class FailureLimiter {
  readonly #maxFailures: number;
  readonly #windowMs: number;
  readonly #nowMs: () => number;
  readonly #sources = new Map<string, { failures: number; untilMs: number }>();

  constructor(init: { readonly maxFailures: number; readonly windowMs: number; readonly nowMs: () => number }) {
    this.#maxFailures = init.maxFailures;
    this.#windowMs = init.windowMs;
    this.#nowMs = init.nowMs;
  }

  /** Milliseconds until the source may try again; 0 means now. */
  waitMs(source: string): number {
    const entry = this.#sources.get(sourceOf(source));
    if (entry === undefined || entry.failures < this.#maxFailures) return 0;
    const left = entry.untilMs - this.#nowMs();
    // More than the window means that the clock was set back.
    return left > this.#windowMs ? 0 : Math.max(0, left);
  }

  fail(source: string): void {
    const key = sourceOf(source);
    const now = this.#nowMs();
    const entry = this.#sources.get(key);
    const isCurrent = entry !== undefined && entry.untilMs > now && entry.untilMs - now <= this.#windowMs;
    this.#sources.delete(key);
    this.#sources.set(key, {
      failures: isCurrent ? entry.failures + 1 : 1,
      untilMs: isCurrent ? entry.untilMs : now + this.#windowMs,
    });
    const oldest = this.#sources.keys().next().value;
    if (this.#sources.size > maxSources && oldest !== undefined) this.#sources.delete(oldest);
  }
}
