import { once } from 'node:events';

/** The promise's outcome, or a rejection with the signal's reason as soon as it is aborted; the promise itself goes on. */
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
