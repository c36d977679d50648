/** Admits a limited number of holders at a time for each key; the others wait in order. */
export class KeyedSemaphore {
  readonly #limit: number;
  readonly #inside = new Map<string, number>();
  readonly #waiting = new Map<string, (() => void)[]>();

  constructor({ limit }: { readonly limit: number }) {
    this.#limit = limit;
  }

  /** Resolves when the caller is admitted, with a function that the caller calls once when it is done. */
  async enter(key: string): Promise<() => void> {
    const inside = this.#inside.get(key) ?? 0;
    if (inside < this.#limit) this.#inside.set(key, inside + 1);
    else {
      await new Promise<void>((resolve) => {
        const waiting = this.#waiting.get(key);
        if (waiting === undefined) this.#waiting.set(key, [resolve]);
        else waiting.push(resolve);
      });
    }
    return () => this.#leave(key);
  }

  /** The longest waiter takes the place. */
  #leave(key: string): void {
    const waiting = this.#waiting.get(key);
    const next = waiting?.shift();
    if (waiting?.length === 0) this.#waiting.delete(key);
    if (next !== undefined) {
      next();
      return;
    }
    const inside = (this.#inside.get(key) ?? 1) - 1;
    if (inside === 0) this.#inside.delete(key);
    else this.#inside.set(key, inside);
  }
}
