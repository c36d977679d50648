/** How many are remembered. Beyond it the one that was used least recently is forgotten, which bounds memory. */
const maxKeys = 10_000;

export type Rate = {
  /** How much may be used at once. */
  readonly burst: number;
  /** How much of it comes back in a second. */
  readonly perSecond: number;
};

type Bucket = { left: number; atMs: number };

/** Limits what each of many senders may use in a time, each by itself. */
export class RateLimiter {
  readonly #rate: Rate;
  /** The least recently used first. */
  readonly #buckets = new Map<string, Bucket>();

  constructor(rate: Rate) {
    this.#rate = rate;
  }

  /** Uses `cost` of what `key` has left at `atMs`, and returns true; false when that is too little: then it uses nothing. */
  take(key: string, atMs: number, cost = 1): boolean {
    const { burst, perSecond } = this.#rate;
    const { left, atMs: beforeMs } = this.#buckets.get(key) ?? { left: burst, atMs };
    // A clock that was set back gives nothing, and does not stop what comes later.
    const filled = Math.min(burst, left + (Math.max(0, atMs - beforeMs) * perSecond) / 1000);
    const isEnough = filled >= cost;
    this.#buckets.delete(key);
    this.#buckets.set(key, { left: isEnough ? filled - cost : filled, atMs });
    const [oldest] = this.#buckets.keys();
    if (this.#buckets.size > maxKeys && oldest !== undefined) this.#buckets.delete(oldest);
    return isEnough;
  }
}
