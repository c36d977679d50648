/** Counts events that are harmless one by one and an attack in bulk: a burst, and a rate at which it refills. */
export class TokenBucket {
  readonly #burst: number;
  readonly #refillPerMs: number;
  readonly #nowMs: () => number;
  #spent = 0;
  #countedAtMs = 0;

  /** `nowMs` is monotonic. */
  constructor(options: { readonly burst: number; readonly perSecond: number; readonly nowMs: () => number }) {
    this.#burst = options.burst;
    this.#refillPerMs = options.perSecond / 1000;
    this.#nowMs = options.nowMs;
  }

  /** Counts one; false when it is one too many. */
  spend(): boolean {
    const nowMs = this.#nowMs();
    this.#spent = Math.max(0, this.#spent - (nowMs - this.#countedAtMs) * this.#refillPerMs) + 1;
    this.#countedAtMs = nowMs;
    return this.#spent <= this.#burst;
  }
}
