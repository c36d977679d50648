/** How long to wait, and whether to be first in line. */
export type EntryWish = {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly isFirst?: boolean;
};

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
    if (!this.#takesPlace(key)) await new Promise<void>((resolve) => this.#queueOf(key).push(resolve));
    return () => this.#leave(key);
  }

  /** As `enter`, but null if the time passes or the signal aborts before the caller is admitted. */
  async enterWithin(key: string, wish: EntryWish): Promise<(() => void) | null> {
    if (wish.signal.aborted) return null;
    if (!this.#takesPlace(key) && !(await this.#waits(key, wish))) return null;
    return () => this.#leave(key);
  }

  #takesPlace(key: string): boolean {
    const inside = this.#inside.get(key) ?? 0;
    if (inside >= this.#limit) return false;
    this.#inside.set(key, inside + 1);
    return true;
  }

  #queueOf(key: string): (() => void)[] {
    const queue = this.#waiting.get(key) ?? [];
    this.#waiting.set(key, queue);
    return queue;
  }

  async #waits(key: string, { timeoutMs, signal, isFirst = false }: EntryWish): Promise<boolean> {
    return new Promise((resolve) => {
      const settle = (isAdmitted: boolean): void => {
        clearTimeout(timer);
        signal.removeEventListener('abort', giveUp);
        resolve(isAdmitted);
      };
      const admit = (): void => settle(true);
      const giveUp = (): void => {
        this.#forget(key, admit);
        settle(false);
      };
      const timer = setTimeout(giveUp, timeoutMs);
      signal.addEventListener('abort', giveUp, { once: true });
      const queue = this.#queueOf(key);
      if (isFirst) queue.unshift(admit);
      else queue.push(admit);
    });
  }

  #forget(key: string, admit: () => void): void {
    const left = this.#waiting.get(key)?.filter((each) => each !== admit) ?? [];
    if (left.length === 0) this.#waiting.delete(key);
    else this.#waiting.set(key, left);
  }

  /** The first in line takes the place. */
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
