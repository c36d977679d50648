import type { Bucket, BucketOptions } from './bucket.js';

export type BusStatus = 'connected' | 'disconnected';

/**
 * One connection to NATS that never gives up. Created by `connectBus`, owned and closed by the caller.
 *
 * Errors are `CulvertError`s: `BUS_DISCONNECTED` (no connection now; the bus reconnects by itself), `BUS_TIMEOUT`,
 * `BUS_NO_RESPONDERS`, `BUS_DENIED` (the server's permissions forbid it), `BUS_PAYLOAD_TOO_LARGE`,
 * `BUS_STORE_FULL`, `BUS_NOT_FOUND` (bucket or stream), `BUS_FAILED` (anything else, with its cause).
 */
export interface Bus extends AsyncDisposable {
  readonly status: BusStatus;
  /** The server that it is connected to now, as `host:port`, or the last one. */
  readonly server: string;
  /** Called at every change, never for the present state. Returns the function that stops it. */
  onStatus(listener: (status: BusStatus) => void): () => void;
  /** Called for every operation that the server's permissions refused; the operation itself fails with BUS_DENIED or a timeout. */
  onDenied(listener: (denied: DeniedOperation) => void): () => void;
  /** Sends and waits for one answer. `timeoutMs` bounds the whole wait. */
  request(subject: string, bytes: Uint8Array, options: RequestOptions): Promise<Uint8Array>;
  /**
   * Answers requests on a subject; wildcards are allowed and the handler gets the subject that was used. It survives
   * reconnects. The requester gets nothing when the handler throws (so encode errors as answers); `onError` hears it.
   * An undefined answer sends nothing, for plain publications. A request that wants its answer elsewhere than in the
   * inbox of whoever its subject names is dropped, and `onError` hears BUS_DENIED. Returns the function that stops
   * serving.
   */
  serve(subject: string, handler: ServeHandler, onError: (error: unknown) => void): () => void;
  /** Fire and forget. False when disconnected: nothing is queued, so memory is bounded while NATS is away. */
  publish(subject: string, bytes: Uint8Array): boolean;
  /** Publishes into a stream and waits until the server has stored it. */
  store(subject: string, bytes: Uint8Array, options: RequestOptions): Promise<void>;
  bucket(name: string, options?: BucketOptions): Promise<Bucket>;
  /** Creates the stream, or brings an existing one to these settings. */
  ensureStream(settings: StreamSettings): Promise<void>;
  /** Delivers every message of a stream, the oldest first, and then each new one; survives reconnects and wiped stores. */
  followStream(options: FollowStreamOptions): StreamFollow;
  /** Sends what is buffered, lets running handlers answer, then closes. */
  drain(): Promise<void>;
  /** Closes at once. Everything that waits fails with BUS_DISCONNECTED. */
  close(): Promise<void>;
}

export type RequestOptions = { readonly timeoutMs: number; readonly signal?: AbortSignal };

export type ServeHandler = (message: BusMessage) => Promise<Uint8Array | undefined> | Uint8Array | undefined;

export type BusMessage = { readonly subject: string; readonly bytes: Uint8Array };

export type DeniedOperation = { readonly operation: 'publish' | 'subscribe'; readonly subject: string };

export type StreamSettings = {
  readonly name: string;
  readonly subjects: readonly string[];
  /** Older messages are dropped; 0 keeps them. */
  readonly maxAgeMs: number;
  /** The oldest are dropped beyond it. */
  readonly maxBytes: number;
  /** A larger one is refused; absent: what the server takes. */
  readonly maxMessageBytes?: number;
};

export type FollowStreamOptions = {
  readonly stream: string;
  /** Subjects, wildcards allowed. */
  readonly filter: string;
  /** Called before every attempt, to make the stream when it is missing; its failure counts as one of following. */
  readonly prepare: () => Promise<void>;
  readonly onMessage: (message: StoredMessage) => void;
  /** Something failed; it goes on by itself. */
  readonly onProblem: (error: unknown) => void;
  readonly signal: AbortSignal;
};

/** `storedAtMs`: the server's clock. */
export type StoredMessage = BusMessage & { readonly storedAtMs: number };

export interface StreamFollow {
  /** True while everything that the stream held at the start has been delivered and the feed is live. */
  readonly isCurrent: boolean;
  /** Settles when the signal, or the end of the bus, has ended it. */
  readonly closed: Promise<void>;
}
