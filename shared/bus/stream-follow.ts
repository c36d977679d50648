import type { JetStreamManager } from 'nats';
import type { FollowStreamOptions, StreamFollow } from './bus.js';
import { toStoreError } from './bus-error.js';
import { followOnce, followUntilAborted, type FeedLink } from './feed-loop.js';
import type { FeedMessage } from './push-feed.js';
import { reconnectDelayMs } from './reconnect-delay.js';

export type ResumingFollowOptions = FollowStreamOptions & {
  readonly link: FeedLink;
  readonly manager: () => Promise<JetStreamManager>;
};

/** Where the reader is. `streamCreated` identifies the stream: one that was deleted and made again restarts its sequence. */
type Position = { readonly streamCreated: string; readonly sequence: number; readonly storedAt: bigint };

/**
 * Delivers every message of a stream in order, from the oldest, then each new one, and resumes where it was when the feed
 * breaks. When another stream has replaced the one it knew (wiped, or restored from a copy), it reads that one from the
 * start and skips what is not newer than the last message it delivered.
 */
export class ResumingFollow implements StreamFollow {
  readonly closed: Promise<void>;
  readonly #init: ResumingFollowOptions;
  #position: Position = { streamCreated: '', sequence: 0, storedAt: -1n };
  #isCurrent = false;

  constructor(init: ResumingFollowOptions) {
    this.#init = init;
    const { link, onProblem } = init;
    const signal = AbortSignal.any([init.signal, link.busClosed]);
    const follow = async (): Promise<boolean> => {
      await init.prepare();
      return await this.#follow(signal);
    };
    this.closed = followUntilAborted({
      link,
      signal,
      follow,
      delayMs: (attempt) => reconnectDelayMs(attempt),
      onProblem,
    });
  }

  get isCurrent(): boolean {
    return this.#isCurrent;
  }

  async #follow(signal: AbortSignal): Promise<boolean> {
    const { link, stream, filter, onProblem } = this.#init;
    const { created, lastSequence } = await this.#streamState();
    const isSame = created === this.#position.streamCreated;
    // A crash of the server can lose acknowledged messages: then the stream ends before the reader's position.
    const fromSequence = isSame ? Math.min(this.#position.sequence, lastSequence) + 1 : 1;
    const skipUpTo = isSame ? -1n : this.#position.storedAt;
    this.#position = { ...this.#position, streamCreated: created, sequence: fromSequence - 1 };
    const onMessage = (message: FeedMessage): void => this.#deliver(message, skipUpTo);
    const onListed = (): void => {
      this.#isCurrent = true;
      this.#guard(() => this.#init.onCurrent?.());
    };
    try {
      return await followOnce({ link, signal, feed: { stream, filter, fromSequence, onMessage, onListed }, onProblem });
    } finally {
      this.#isCurrent = false;
    }
  }

  #deliver(message: FeedMessage, skipUpTo: bigint): void {
    const storedAt = BigInt(message.storedAt);
    const isKnown = storedAt <= skipUpTo;
    this.#position = {
      streamCreated: this.#position.streamCreated,
      sequence: message.sequence,
      storedAt: isKnown ? this.#position.storedAt : storedAt,
    };
    if (isKnown) return;
    const storedAtMs = Number(storedAt / 1_000_000n);
    const { subject, bytes, sizeBytes, sequence } = message;
    this.#guard(() => this.#init.onMessage({ subject, bytes, sizeBytes, storedAtMs, sequence }));
  }

  /** The caller's functions run inside the client's parser, so what they throw must not reach it. */
  #guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#init.onProblem(error);
    }
  }

  async #streamState(): Promise<{ readonly created: string; readonly lastSequence: number }> {
    try {
      const manager = await this.#init.manager();
      const { created, state } = await manager.streams.info(this.#init.stream);
      return { created, lastSequence: state.last_seq };
    } catch (error) {
      throw toStoreError(`cannot read the stream ${this.#init.stream}`, error);
    }
  }
}
