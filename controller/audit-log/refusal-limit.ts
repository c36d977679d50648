const windowMs = 60_000;
/** Lines of one source in a window, and of all. */
const maxOfSource = 20;
const maxOfAll = 200;
/** Sources that are told apart. */
const maxSources = 10_000;

/** Bounds the lines that strangers can make: of what is beyond it only the number is kept. */
export class RefusalLimit {
  readonly #nowMs: () => number;
  #sinceMs = Number.NEGATIVE_INFINITY;
  #written = 0;
  readonly #bySource = new Map<string, number>();
  #leftOut = 0;
  readonly #sourcesLeftOut = new Set<string>();

  constructor({ nowMs }: { readonly nowMs: () => number }) {
    this.#nowMs = nowMs;
  }

  /** Whether a refusal of this source gets a line. */
  take(source: string): boolean {
    const nowMs = this.#nowMs();
    // Also when the clock was set back.
    if (Math.abs(nowMs - this.#sinceMs) >= windowMs) {
      this.#sinceMs = nowMs;
      this.#written = 0;
      this.#bySource.clear();
    }
    const ofSource = this.#bySource.get(source) ?? 0;
    if (ofSource >= maxOfSource || this.#written >= maxOfAll) {
      this.#leftOut++;
      if (this.#sourcesLeftOut.size < maxSources) this.#sourcesLeftOut.add(source);
      return false;
    }
    this.#bySource.set(source, ofSource + 1);
    this.#written++;
    return true;
  }

  /** What has no line since the last call; null: nothing. */
  takeLeftOut(): { readonly requests: number; readonly sources: number } | null {
    if (this.#leftOut === 0) return null;
    const left = { requests: this.#leftOut, sources: this.#sourcesLeftOut.size };
    this.#leftOut = 0;
    this.#sourcesLeftOut.clear();
    return left;
  }
}
