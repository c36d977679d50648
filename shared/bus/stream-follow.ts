import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import type { JetStreamManager } from 'nats';
import { toStoreError } from './bus-error.js';
import { openFeed, type Feed, type FeedMessage, type FeedOptions } from './push-feed.js';
import { reconnectDelayMs } from './reconnect-delay.js';
import type { FollowStreamOptions, StreamFollow } from './bus.js';

export type ResumingFollowOptions = FollowStreamOptions & {
  readonly feed: Pick<FeedOptions, 'connection' | 'inboxPrefix'>;
  readonly manager: () => Promise<JetStreamManager>;
  /** Aborted when the bus closes. */
  readonly busClosed: AbortSignal;
  /** Resolves at once when the bus is connected, else when it is; rejects with the signal. */
  readonly whenConnected: (signal: AbortSignal) => Promise<void>;
  /** Calls the listener at every loss of the connection; returns the function that stops it. */
  readonly onDisconnect: (listener: () => void) => () => void;
};

/** Where the reader is: a stream that was deleted and made again starts its sequence anew. */
type Position = { readonly streamCreated: string; readonly sequence: number; readonly storedAt: bigint };

/**
 * Every message of a stream from its oldest, in order, and then the new ones; goes on where it was whenever the feed
 * breaks. When another stream has taken the place of the one it knew (wiped, or restored from a copy), it reads that
 * one from the start and leaves out what is not newer than the last message it delivered.
 */
export class ResumingFollow implements StreamFollow {
  readonly closed: Promise<void>;
  private readonly options: ResumingFollowOptions;
  private position: Position = { streamCreated: '', sequence: 0, storedAt: -1n };
  private isCurrentNow = false;

  constructor(options: ResumingFollowOptions) {
    this.options = options;
    this.closed = this.run(AbortSignal.any([options.signal, options.busClosed]));
  }

  get isCurrent(): boolean {
    return this.isCurrentNow;
  }

  private async run(signal: AbortSignal): Promise<void> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        await this.options.whenConnected(signal);
        await this.options.prepare();
        const wasListed = await this.follow(signal);
        if (wasListed) attempt = -1;
      } catch (error) {
        if (signal.aborted) return;
        this.options.onProblem(error);
      }
      await delay(reconnectDelayMs(Math.max(attempt, 0)), undefined, { signal }).catch(() => undefined);
    }
  }

  /** One feed from its start to its end. Returns whether it got as far as the newest message. */
  private async follow(signal: AbortSignal): Promise<boolean> {
    const { stream, filter } = this.options;
    const { created, lastSequence } = await this.streamState();
    const isSame = created === this.position.streamCreated;
    // Acknowledged messages can be missing after a crash of the server: then it is behind the reader.
    const fromSequence = isSame ? Math.min(this.position.sequence, lastSequence) + 1 : 1;
    const skipUpTo = isSame ? -1n : this.position.storedAt;
    this.position = { ...this.position, streamCreated: created, sequence: fromSequence - 1 };
    const ended = new AbortController();
    const stopListening = this.options.onDisconnect(() => ended.abort());
    let wasListed = false;
    let feed: Feed | undefined;
    try {
      feed = await openFeed({
        ...this.options.feed,
        stream,
        filter,
        fromSequence,
        onMessage: (message) => this.deliver(message, skipUpTo),
        onListed: () => {
          wasListed = true;
          this.isCurrentNow = true;
        },
        onEnd: (error) => {
          this.options.onProblem(error);
          ended.abort();
        },
      });
      const over = AbortSignal.any([signal, ended.signal]);
      if (!over.aborted) await once(over, 'abort');
    } finally {
      this.isCurrentNow = false;
      stopListening();
      feed?.stop();
    }
    return wasListed;
  }

  private deliver(message: FeedMessage, skipUpTo: bigint): void {
    const storedAt = BigInt(message.storedAt);
    const isKnown = storedAt <= skipUpTo;
    this.position = {
      streamCreated: this.position.streamCreated,
      sequence: message.sequence,
      storedAt: isKnown ? this.position.storedAt : storedAt,
    };
    if (isKnown) return;
    try {
      const storedAtMs = Number(storedAt / 1_000_000n);
      this.options.onMessage({ subject: message.subject, bytes: message.bytes, storedAtMs });
    } catch (error) {
      // It runs inside the client's parser, which must not see what a caller's function throws.
      this.options.onProblem(error);
    }
  }

  private async streamState(): Promise<{ readonly created: string; readonly lastSequence: number }> {
    try {
      const manager = await this.options.manager();
      const { created, state } = await manager.streams.info(this.options.stream);
      return { created, lastSequence: state.last_seq };
    } catch (error) {
      throw toStoreError(`cannot read the stream ${this.options.stream}`, error);
    }
  }
}
