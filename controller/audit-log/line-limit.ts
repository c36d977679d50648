const windowMs = 60_000;
/** Lines of one sender in a window, and of all. */
const maxOfSender = 20;
const maxOfAll = 200;
/** Senders that are told apart. */
const maxSenders = 10_000;

/** Bounds the lines that requests without effect can make: of what is beyond it only the number and the senders are kept. */
export class LineLimit {
  readonly #nowMs: () => number;
  #sinceMs = Number.NEGATIVE_INFINITY;
  #written = 0;
  readonly #bySender = new Map<string, number>();
  #leftOut = 0;
  readonly #sendersLeftOut = new Set<string>();

  constructor({ nowMs }: { readonly nowMs: () => number }) {
    this.#nowMs = nowMs;
  }

  /** Whether a request of this sender gets a line. */
  take(sender: string): boolean {
    const nowMs = this.#nowMs();
    // Also when the clock was set back.
    if (Math.abs(nowMs - this.#sinceMs) >= windowMs) {
      this.#sinceMs = nowMs;
      this.#written = 0;
      this.#bySender.clear();
    }
    const ofSender = this.#bySender.get(sender) ?? 0;
    if (ofSender >= maxOfSender || this.#written >= maxOfAll) {
      this.#leftOut++;
      if (this.#sendersLeftOut.size < maxSenders) this.#sendersLeftOut.add(sender);
      return false;
    }
    this.#bySender.set(sender, ofSender + 1);
    this.#written++;
    return true;
  }

  /** What has no line since the last call; null: nothing. */
  takeLeftOut(): { readonly requests: number; readonly senders: readonly string[] } | null {
    if (this.#leftOut === 0) return null;
    const left = { requests: this.#leftOut, senders: [...this.#sendersLeftOut] };
    this.#leftOut = 0;
    this.#sendersLeftOut.clear();
    return left;
  }
}
