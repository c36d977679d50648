type Waiting = { readonly source: string; readonly begin: () => void };

/**
 * Lets TLS handshakes of a server begin one after the other, source by source, with a pause after each: a client that
 * connects again and again holds up itself, and what else the thread does gets its time in between. Of one source the newest
 * begins first, because those that wait for the longest are the first to go when it has too many.
 */
export class HandshakePace {
  readonly #betweenMs: number;
  readonly #sources = new Map<string, Set<Waiting>>();
  #timer: NodeJS.Timeout | null = null;
  #begunAtMs = Number.NEGATIVE_INFINITY;

  constructor(init: { readonly betweenMs: number }) {
    this.#betweenMs = init.betweenMs;
  }

  /** Calls `begin` in its turn, and not in this call. Returns a function that gives the turn up. */
  wait(source: string, begin: () => void): () => void {
    const waiting = { source, begin };
    const own = this.#sources.get(source) ?? new Set();
    own.add(waiting);
    this.#sources.set(source, own);
    this.#goOn();
    return () => this.#remove(waiting);
  }

  #goOn(): void {
    if (this.#timer !== null || this.#sources.size === 0) return;
    const inMs = this.#begunAtMs + this.#betweenMs - performance.now();
    this.#timer = setTimeout(() => this.#onTurn(), Math.max(0, inMs));
  }

  #onTurn(): void {
    this.#timer = null;
    const [own] = this.#sources.values();
    const waiting = [...(own ?? [])].at(-1);
    if (own === undefined || waiting === undefined) return;
    this.#remove(waiting);
    if (own.size > 0) {
      // To the end.
      this.#sources.delete(waiting.source);
      this.#sources.set(waiting.source, own);
    }
    this.#begunAtMs = performance.now();
    waiting.begin();
    this.#goOn();
  }

  #remove(waiting: Waiting): void {
    const own = this.#sources.get(waiting.source);
    own?.delete(waiting);
    if (own?.size === 0) this.#sources.delete(waiting.source);
  }
}
