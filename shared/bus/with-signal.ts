import { once } from 'node:events';

/** Settles like the promise, or rejects with the signal's reason when it is aborted first. The promise itself continues. */
export async function withSignal<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const stopped = new AbortController();
  try {
    const aborted = once(signal, 'abort', { signal: stopped.signal }).then((): never => {
      throw signal.reason;
    });
    return await Promise.race([promise, aborted]);
  } finally {
    stopped.abort();
  }
}
