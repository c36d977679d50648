/** Connections that are begun in one turn of the event loop: some milliseconds of work. */
const perTurn = 16;

/**
 * Lets the connections of one workload wait when it opens many at once, so that the bytes of all others, and their new
 * connections, get their turn in between. The kernel hands over a whole backlog in one turn of the event loop, and a
 * tunnel a hundred requests; each takes more time than any message. Who asks for more than there is room for waits
 * behind its own connections, and those who wait are served one connection each in turn.
 */
export class AcceptScheduler {
  readonly #waiting = new Map<string, Waiting>();
  readonly #onTurn = (): void => this.#nextTurn();
  #begun = 0;
  #isTurnSet = false;
  #size = 0;

  /** Connections that wait. */
  get size(): number {
    return this.#size;
  }

  /** Calls `begin` at once, or in a later turn. `who` opens the connection. */
  take(who: string, begin: () => void): void {
    if (!this.#isTurnSet) {
      this.#isTurnSet = true;
      setImmediate(this.#onTurn);
    }
    if (this.#begun < perTurn && this.#size === 0) {
      this.#begun += 1;
      begin();
      return;
    }
    this.#size += 1;
    const waiting = this.#waiting.get(who);
    if (waiting === undefined) this.#waiting.set(who, { begins: [begin], at: 0 });
    else waiting.begins.push(begin);
  }

  /** Lets nobody wait any longer. */
  beginAll(): void {
    while (this.#size > 0) this.#beginNext();
  }

  #nextTurn(): void {
    this.#isTurnSet = false;
    this.#begun = 0;
    if (this.#size === 0) return;
    this.#isTurnSet = true;
    setImmediate(this.#onTurn);
    while (this.#size > 0 && this.#begun < perTurn) this.#beginNext();
  }

  #beginNext(): void {
    // A map gives its keys in the order in which they came: who was served goes to the end.
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

/** `begins[at]` is next. */
type Waiting = { readonly begins: (() => void)[]; at: number };
