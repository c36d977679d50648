import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { openFeed, type Feed, type FeedOptions } from './push-feed.js';

/** What a feed needs to come back after the connection was lost. */
export type FeedLink = Pick<FeedOptions, 'connection' | 'inboxPrefix' | 'names'> & {
  /** Aborted when the bus closes. */
  readonly busClosed: AbortSignal;
  /** Resolves once the bus is connected; rejects with the signal. */
  readonly whenConnected: (signal: AbortSignal) => Promise<void>;
  /** Calls the listener at every loss of the connection; returns the function that stops it. */
  readonly onDisconnect: (listener: () => void) => () => void;
};

/**
 * Follows one feed after the other until the signal: waits for the connection, runs `follow`, waits and starts over.
 * `follow` returns whether its feed became complete, which resets the delay; what it throws goes to `onProblem`.
 */
export async function followUntilAborted(o: {
  readonly link: FeedLink;
  readonly signal: AbortSignal;
  readonly follow: () => Promise<boolean>;
  /** Milliseconds to wait before the next attempt; `attempt` counts failures in a row from 0. */
  readonly delayMs: (attempt: number) => number;
  readonly onProblem: (error: unknown) => void;
}): Promise<void> {
  const { link, signal } = o;
  for (let attempt = 0; !signal.aborted; attempt++) {
    try {
      await link.whenConnected(signal);
      const wasListed = await o.follow();
      if (wasListed) attempt = -1;
    } catch (error) {
      if (signal.aborted) return;
      o.onProblem(error);
    }
    await delay(o.delayMs(Math.max(attempt, 0)), undefined, { signal }).catch(() => undefined);
  }
}

/** Runs one feed until it ends, the connection is lost or the signal aborts. Returns whether its list became complete. */
export async function followOnce(o: {
  readonly link: FeedLink;
  readonly signal: AbortSignal;
  readonly feed: Omit<FeedOptions, 'connection' | 'inboxPrefix' | 'names' | 'onEnd'>;
  readonly onProblem: (error: unknown) => void;
}): Promise<boolean> {
  const { connection, inboxPrefix, names, onDisconnect } = o.link;
  const ended = new AbortController();
  const stopListening = onDisconnect(() => ended.abort());
  let wasListed = false;
  let feed: Feed | undefined;
  try {
    feed = await openFeed({
      ...o.feed,
      connection,
      inboxPrefix,
      names,
      onListed: () => {
        wasListed = true;
        o.feed.onListed();
      },
      onEnd: (error) => {
        o.onProblem(error);
        ended.abort();
      },
    });
    const over = AbortSignal.any([o.signal, ended.signal]);
    if (!over.aborted) await once(over, 'abort');
  } finally {
    stopListening();
    feed?.stop();
  }
  return wasListed;
}
