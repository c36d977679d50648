/**
 * How long an attempt to reach an endpoint waited for this agent itself: for its turn, or in a line of its own. What is over
 * meanwhile says nothing of the endpoint.
 */
export class OwnWaits {
  #askedAtMs = performance.now();
  #since: (() => number | null) | null = null;

  /** Milliseconds for which the endpoint has been asked; 0: it is not asked yet. */
  get askedForMs(): number {
    const sinceMs = this.#since === null ? this.#askedAtMs : this.#since();
    return sinceMs === null ? 0 : Math.max(0, performance.now() - sinceMs);
  }

  /** `since`: from when on, in terms of `performance.now()`, the endpoint is asked in spite of the wait; null: it is not. */
  async during<T>(wait: Promise<T>, since: () => number | null = () => null): Promise<T> {
    this.#since = since;
    try {
      return await wait;
    } finally {
      this.#askedAtMs = since() ?? performance.now();
      this.#since = null;
    }
  }
}
