/**
 * A bounded number of tasks at a time. Who asks for many waits behind who asks for one: turns go round the keys. At most
 * `maxWaiting` of one key wait.
 */
export class IssuerTurns {
  readonly #maxRunning: number;
  readonly #maxWaiting: number;
  /** In the order of their next turns. */
  readonly #waiting = new Map<string, (() => void)[]>();
  #running = 0;
  #count = 0;

  constructor(init: { readonly maxRunning: number; readonly maxWaiting: number }) {
    this.#maxRunning = init.maxRunning;
    this.#maxWaiting = init.maxWaiting;
  }

  /** Tasks that run or wait. */
  get size(): number {
    return this.#running + this.#count;
  }

  /**
   * Null: too many of this key wait, and the task does not run. A task whose signal has aborted gets its turn, and ends by
   * itself.
   */
  async run<T>(key: string, task: () => Promise<T>): Promise<T | null> {
    if (this.#running < this.#maxRunning) this.#running++;
    else if (!(await this.#turn(key))) return null;
    try {
      return await task();
    } finally {
      this.#next();
    }
  }

  async #turn(key: string): Promise<boolean> {
    const waiting = this.#waiting.get(key) ?? [];
    if (waiting.length >= this.#maxWaiting) return false;
    this.#waiting.set(key, waiting);
    this.#count++;
    await new Promise<void>((resolve) => waiting.push(resolve));
    return true;
  }

  /** Hands the place to the key whose turn it is. */
  #next(): void {
    const [entry] = this.#waiting;
    const begin = entry?.[1].shift();
    if (entry === undefined || begin === undefined) {
      this.#running--;
      return;
    }
    const [key, waiting] = entry;
    this.#waiting.delete(key);
    if (waiting.length > 0) this.#waiting.set(key, waiting);
    this.#count--;
    begin();
  }
}
