import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { BucketWatch, WatchOptions } from './bucket.js';
import { openFeed, type Feed, type FeedMessage, type FeedOptions } from './push-feed.js';
import { reconnectDelayMs } from './reconnect-delay.js';

export type RelistingWatchOptions = WatchOptions & {
  readonly feed: Pick<FeedOptions, 'connection' | 'inboxPrefix' | 'stream' | 'filter'>;
  /** Length of `$KV.<bucket>.`: what comes before the key in a subject. */
  readonly subjectPrefixLength: number;
  /** Aborted when the bus closes. */
  readonly busClosed: AbortSignal;
  /** Resolves at once when the bus is connected, else when it is; rejects with the signal. */
  readonly whenConnected: (signal: AbortSignal) => Promise<void>;
  /** Calls the listener at every loss of the connection; returns the function that stops it. */
  readonly onDisconnect: (listener: () => void) => () => void;
};

/**
 * Lists a bucket, follows it, and starts over whenever the feed ends for whatever reason. What was delivered before is
 * remembered (key → message), so that after a new list only the differences are delivered.
 */
export class RelistingWatch implements BucketWatch {
  readonly closed: Promise<void>;
  private readonly options: RelistingWatchOptions;
  /** Names the message that was delivered last for every key that is present. */
  private readonly known = new Map<string, string>();
  private isReadyReported = false;
  private isLiveNow = false;

  constructor(options: RelistingWatchOptions) {
    this.options = options;
    const signal = AbortSignal.any([options.signal, options.busClosed]);
    this.closed = this.run(signal);
  }

  get isLive(): boolean {
    return this.isLiveNow;
  }

  private async run(signal: AbortSignal): Promise<void> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        await this.options.whenConnected(signal);
        const wasListed = await this.follow(signal);
        if (wasListed) attempt = -1;
      } catch (error) {
        if (signal.aborted) return;
        this.options.onProblem?.(error);
      }
      await delay(reconnectDelayMs(Math.max(attempt, 0)) / 5, undefined, { signal }).catch(() => undefined);
    }
  }

  /** One feed from its start to its end. Returns whether it got as far as a complete list. */
  private async follow(signal: AbortSignal): Promise<boolean> {
    const listing = new Set<string>();
    let wasListed = false;
    let feed: Feed | undefined;
    const ended = new AbortController();
    const stopListening = this.options.onDisconnect(() => ended.abort());
    try {
      feed = await openFeed({
        ...this.options.feed,
        onMessage: (message) => this.guard(() => this.deliver(message, wasListed ? undefined : listing)),
        onListed: () => {
          wasListed = true;
          this.guard(() => this.finishListing(listing));
        },
        onEnd: (error) => {
          this.options.onProblem?.(error);
          ended.abort();
        },
      });
      const over = AbortSignal.any([signal, ended.signal]);
      if (!over.aborted) await once(over, 'abort');
    } finally {
      this.isLiveNow = false;
      stopListening();
      feed?.stop();
    }
    return wasListed;
  }

  /** The caller's functions run inside the client's parser, which must not see what they throw. */
  private guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.options.onProblem?.(error);
    }
  }

  private deliver(message: FeedMessage, listing: Set<string> | undefined): void {
    const key = message.subject.slice(this.options.subjectPrefixLength);
    if (message.isDeletion) {
      if (this.known.delete(key)) this.options.onEntry({ operation: 'delete', key });
      return;
    }
    listing?.add(key);
    const name = `${message.sequence}@${message.storedAt}`;
    if (this.known.get(key) === name) return;
    this.known.set(key, name);
    this.options.onEntry({ operation: 'put', key, value: message.bytes, revision: message.sequence });
  }

  private finishListing(listing: ReadonlySet<string>): void {
    for (const key of this.known.keys()) {
      if (listing.has(key)) continue;
      this.known.delete(key);
      this.options.onEntry({ operation: 'delete', key });
    }
    this.isLiveNow = true;
    if (this.isReadyReported) return;
    this.isReadyReported = true;
    this.options.onReady();
  }
}
