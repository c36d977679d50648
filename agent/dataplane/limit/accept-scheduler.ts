/** Connections that begin in one turn of the event loop. */
const perTurn = 16;
/** After this time no other one begins in the same turn. */
const turnMs = 1;

/**
 * Delays connections of a client that opens many at once, so that the bytes and new connections of others get their turn
 * in between. The kernel delivers a whole backlog in one turn of the event loop, and a tunnel a hundred requests; each
 * takes more time than any message. A client over the limit of a turn waits behind its own connections, and waiting
 * clients are served one connection each in turn.
 */
export class AcceptScheduler {
  readonly #waiting = new Map<string, Waiting>();
  readonly #onTurn = (): void => this.#nextTurn();
  readonly #nowMs: () => number;
  #begun = 0;
  /** When the first one began in this turn. */
  #begunAtMs = 0;
  #isTurnSet = false;
  #size = 0;

  /** `nowMs`: of a clock that never goes back. */
  constructor({ nowMs }: { readonly nowMs: () => number }) {
    this.#nowMs = nowMs;
  }

  /** Connections that are waiting. */
  get size(): number {
    return this.#size;
  }

  /** Calls `begin` at once or in a later turn. `who`: the client that opens the connection. */
  take(who: string, begin: () => void): void {
    if (!this.#isTurnSet) {
      this.#isTurnSet = true;
      setImmediate(this.#onTurn);
    }
    if (this.#size === 0 && this.#mayBegin()) {
      this.#begun += 1;
      begin();
      return;
    }
    this.#size += 1;
    const waiting = this.#waiting.get(who);
    if (waiting === undefined) this.#waiting.set(who, { begins: [begin], at: 0 });
    else waiting.begins.push(begin);
  }

  /** Begins all waiting connections now. */
  beginAll(): void {
    while (this.#size > 0) this.#beginNext();
  }

  #nextTurn(): void {
    this.#isTurnSet = false;
    this.#begun = 0;
    if (this.#size === 0) return;
    this.#isTurnSet = true;
    setImmediate(this.#onTurn);
    while (this.#size > 0 && this.#mayBegin()) this.#beginNext();
  }

  #mayBegin(): boolean {
    if (this.#begun >= perTurn) return false;
    const nowMs = this.#nowMs();
    if (this.#begun === 0) this.#begunAtMs = nowMs;
    return nowMs - this.#begunAtMs < turnMs;
  }

  #beginNext(): void {
    // A map keeps its keys in the order of insertion: a client that was served goes to the end.
    const [next] = this.#waiting;
    if (next === undefined) return;
    const [who, waiting] = next;
    const begin = waiting.begins[waiting.at]!;
    waiting.at += 1;
    this.#waiting.delete(who);
    if (waiting.at < waiting.begins.length) this.#waiting.set(who, waiting);
    this.#size -= 1;
    this.#begun += 1;
    begin();
  }
}

/** `begins[at]` is the next one. */
type Waiting = { readonly begins: (() => void)[]; at: number };
