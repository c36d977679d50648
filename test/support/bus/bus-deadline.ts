import { setTimeout as delay } from 'node:timers/promises';

/** Rejects when the promise has not settled in time. */
export async function within<T>(what: string, promise: Promise<T>, timeoutMs = 30_000): Promise<T> {
  const over = new AbortController();
  const late = delay(timeoutMs, undefined, { signal: over.signal }).then((): never => {
    throw new Error(`${what} did not happen within ${timeoutMs} ms`);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    over.abort();
    late.catch(() => undefined);
  }
}

/** A list that tests can wait on: what came in, in order. */
export class Inbox<T> {
  readonly items: T[] = [];
  private waiting: (() => void)[] = [];

  readonly push = (item: T): void => {
    this.items.push(item);
    for (const wake of this.waiting.splice(0)) wake();
  };

  /** Resolves as soon as the condition on all items so far is true. */
  async until(what: string, isDone: (items: readonly T[]) => boolean, timeoutMs = 30_000): Promise<void> {
    const wait = async (): Promise<void> => {
      while (!isDone(this.items)) {
        await new Promise<void>((resolve) => {
          this.waiting.push(resolve);
        });
      }
    };
    await within(`${what} (got ${JSON.stringify(this.items.slice(-5))})`, wait(), timeoutMs);
  }
}
