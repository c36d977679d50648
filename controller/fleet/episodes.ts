/** What did not happen for this long begins again when it happens. */
const quietMs = 60_000;
/** Beyond it the one that happened least recently is forgotten. */
const maxKeys = 10_000;

/** Tells when something begins that can happen many times a second, so that it costs one line in a log. */
export class Episodes {
  readonly #nowMs: () => number;
  /** When each happened last; the least recent first. */
  readonly #lastMs = new Map<string, number>();

  constructor({ nowMs }: { readonly nowMs: () => number }) {
    this.#nowMs = nowMs;
  }

  /** Notes that it happens, and says whether it had not for a minute. */
  begins(key: string): boolean {
    const now = this.#nowMs();
    const lastMs = this.#lastMs.get(key);
    this.#lastMs.delete(key);
    this.#lastMs.set(key, now);
    const [oldest] = this.#lastMs.keys();
    if (this.#lastMs.size > maxKeys && oldest !== undefined) this.#lastMs.delete(oldest);
    return lastMs === undefined || Math.abs(now - lastMs) >= quietMs;
  }
}
