/** Connections that begin in one turn of the event loop. */
const perTurn = 16;
/** After this time no other one begins in the same turn. */
const turnMs = 1;

/**
 * Delays connections of a client that opens many at once, so that the bytes and new connections of others get their turn
 * in between. The kernel delivers a whole backlog in one turn of the event loop, and a tunnel a hundred requests; each
 * takes more time than any message. A client over the limit of a turn waits behind its own connections, and waiting
 * clients are served one connection each in turn.
 *
 * What a connection costs when it begins is mostly what its promises do next: a rule is asked, a socket made and connected.
 * They run when the caller has returned, so a loop that begins several sees none of it. Hence each that had to wait begins in
 * a callback of its own, behind which Node runs the promises of the one before. A few that come together begin at once and
 * together: what they send goes out in one write.
 */
export class AcceptScheduler {
  readonly #waiting = new Map<string, Waiting>();
  readonly #onStep = (): void => this.#step();
  readonly #nowMs: () => number;
  #begun = 0;
  /** When the first one began in this turn. */
  #begunAtMs = 0;
  /** Callbacks that are set for the turn that comes, and those of this turn that have not run. */
  #stepsSet = 0;
  #stepsLeft = 0;
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
    if (this.#size === 0 && this.#mayBegin()) {
      this.#begun += 1;
      this.#setSteps(1);
      begin();
      return;
    }
    this.#size += 1;
    const waiting = this.#waiting.get(who);
    if (waiting === undefined) this.#waiting.set(who, { begins: [begin], at: 0 });
    else waiting.begins.push(begin);
    this.#setSteps(this.#size);
  }

  /** Begins all waiting connections now. */
  beginAll(): void {
    while (this.#size > 0) this.#takeNext()();
  }

  /** Those that are set while others run come in the next turn. */
  #setSteps(wanted: number): void {
    while (this.#stepsSet < Math.min(wanted, perTurn)) {
      this.#stepsSet += 1;
      setImmediate(this.#onStep);
    }
  }

  #step(): void {
    if (this.#stepsLeft === 0) {
      this.#stepsLeft = this.#stepsSet;
      this.#stepsSet = 0;
      this.#begun = 0;
    }
    this.#stepsLeft -= 1;
    const begin = this.#size > 0 && this.#mayBegin() ? this.#takeNext() : null;
    if (begin !== null) this.#begun += 1;
    // One even if none waits, so that the next turn counts from 0.
    if (this.#stepsLeft === 0 && this.#begun > 0) this.#setSteps(Math.max(1, this.#size));
    begin?.();
  }

  #mayBegin(): boolean {
    if (this.#begun >= perTurn) return false;
    const nowMs = this.#nowMs();
    if (this.#begun === 0) this.#begunAtMs = nowMs;
    return nowMs - this.#begunAtMs < turnMs;
  }

  #takeNext(): () => void {
    // A map keeps its keys in the order of insertion: a client that was served goes to the end.
    const [next] = this.#waiting;
    if (next === undefined) throw new Error('no connection waits');
    const [who, waiting] = next;
    const begin = waiting.begins[waiting.at]!;
    waiting.at += 1;
    this.#waiting.delete(who);
    if (waiting.at < waiting.begins.length) this.#waiting.set(who, waiting);
    this.#size -= 1;
    return begin;
  }
}

/** `begins[at]` is the next one. */
type Waiting = { readonly begins: (() => void)[]; at: number };
