import type { BucketWatch, WatchOptions } from './bucket.js';
import { followOnce, followUntilAborted, type FeedLink } from './feed-loop.js';
import type { FeedMessage, FeedOptions } from './push-feed.js';
import { reconnectDelayMs } from './reconnect-delay.js';

export type RelistingWatchOptions = WatchOptions & {
  readonly link: FeedLink;
  readonly feed: Pick<FeedOptions, 'stream' | 'filter'>;
  /** Length of `$KV.<bucket>.`, the part of a subject before the key. */
  readonly subjectPrefixLength: number;
};

/**
 * Lists a bucket, follows it, and starts over whenever the feed ends. It remembers what it delivered (key → message), so
 * after a new list it delivers only the differences.
 */
export class RelistingWatch implements BucketWatch {
  readonly closed: Promise<void>;
  readonly #init: RelistingWatchOptions;
  readonly #onProblem: (error: unknown) => void;
  /** Identifies the message that was delivered last for every present key. */
  readonly #delivered = new Map<string, string>();
  #isReadyReported = false;
  #isLive = false;

  constructor(init: RelistingWatchOptions) {
    this.#init = init;
    this.#onProblem = (error) => init.onProblem?.(error);
    const { link } = init;
    const signal = AbortSignal.any([init.signal, link.busClosed]);
    this.closed = followUntilAborted({
      link,
      signal,
      follow: () => this.#follow(signal),
      delayMs: (attempt) => reconnectDelayMs(attempt) / 5,
      onProblem: this.#onProblem,
    });
  }

  get isLive(): boolean {
    return this.#isLive;
  }

  async #follow(signal: AbortSignal): Promise<boolean> {
    /** Keys of the list; null once it is complete. */
    let listing: Set<string> | null = new Set();
    const onListed = (): void => {
      const listed = listing ?? new Set();
      listing = null;
      this.#guard(() => this.#finishListing(listed));
    };
    const onMessage = (message: FeedMessage): void => this.#guard(() => this.#deliver(message, listing));
    const { link, feed } = this.#init;
    try {
      return await followOnce({ link, signal, feed: { ...feed, onMessage, onListed }, onProblem: this.#onProblem });
    } finally {
      this.#isLive = false;
    }
  }

  /** The caller's functions run inside the client's parser, so what they throw must not reach it. */
  #guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#onProblem(error);
    }
  }

  #deliver(message: FeedMessage, listing: Set<string> | null): void {
    const key = message.subject.slice(this.#init.subjectPrefixLength);
    if (message.isDeletion) {
      if (this.#delivered.delete(key)) this.#init.onEntry({ operation: 'delete', key });
      return;
    }
    listing?.add(key);
    const id = `${message.sequence}@${message.storedAt}`;
    if (this.#delivered.get(key) === id) return;
    this.#delivered.set(key, id);
    this.#init.onEntry({ operation: 'put', key, value: message.bytes, revision: message.sequence });
  }

  #finishListing(listed: ReadonlySet<string>): void {
    for (const key of this.#delivered.keys()) {
      if (listed.has(key)) continue;
      this.#delivered.delete(key);
      this.#init.onEntry({ operation: 'delete', key });
    }
    this.#isLive = true;
    if (this.#isReadyReported) return;
    this.#isReadyReported = true;
    this.#init.onReady();
  }
}
