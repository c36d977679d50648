import type { CulvertError } from '../errors.js';
import type { Bucket, BucketOptions } from './bucket.js';

export type BusStatus = 'connected' | 'disconnected';

/**
 * A connection to NATS that reconnects forever. `connectBus` creates it; the caller owns and closes it.
 *
 * Errors are `CulvertError`s: `BUS_DISCONNECTED` (not connected now; the bus reconnects by itself), `BUS_UNTRUSTED` (TLS
 * refused the server's certificate), `BUS_REFUSED` (the server refuses the credential), `BUS_TIMEOUT`, `BUS_NO_RESPONDERS`,
 * `BUS_DENIED` (the server's permissions forbid it), `BUS_PAYLOAD_TOO_LARGE`, `BUS_STORE_FULL`, `BUS_NOT_FOUND`
 * (no such bucket or stream), `BUS_FAILED` (anything else, with its cause).
 */
export interface Bus extends AsyncDisposable {
  readonly status: BusStatus;
  /** `host:port` of the current server, or of the last one while disconnected. */
  readonly server: string;
  /** What the subjects of its inboxes begin with. */
  readonly inboxPrefix: string;
  /** Calls the listener at every change, not for the current state. Returns the function that removes it. */
  onStatus(listener: (status: BusStatus) => void): () => void;
  /**
   * Calls the listener for every operation that the server's permissions refused; the operation itself fails with
   * BUS_DENIED or a timeout.
   */
  onDenied(listener: (denied: DeniedOperation) => void): () => void;
  /** Sends a request and waits for one answer, at most `timeoutMs`. */
  request(subject: string, bytes: Uint8Array, options: RequestOptions): Promise<Uint8Array>;
  /**
   * Answers requests on a subject, also after reconnects. Wildcards are allowed; the handler gets the actual subject. When
   * the handler throws, the requester gets no answer and `onError` gets the error, so encode errors as answers. An undefined
   * answer sends nothing, for plain publications. A request whose reply subject is not in the inbox of the node that its
   * subject names is dropped, and `onError` gets BUS_DENIED; one that comes while too many are being answered, and it gets
   * BUS_OVERLOADED. `isWelcome` sees every message first; false: it is dropped without a word. Returns the function that
   * stops serving.
   */
  serve(
    subject: string,
    handler: ServeHandler,
    onError: (error: unknown) => void,
    isWelcome?: (subject: string) => boolean,
  ): () => void;
  /** Calls the listener for each message on a subject, also after reconnects, and answers none. Returns what ends it. */
  observe(subject: string, listener: (message: BusMessage) => void): () => void;
  /** Publishes without confirmation. False when disconnected: nothing is queued, which bounds memory during an outage. */
  publish(subject: string, bytes: Uint8Array): boolean;
  /** Publishes to a stream and waits until the server has stored the message. */
  store(subject: string, bytes: Uint8Array, options: RequestOptions): Promise<void>;
  bucket(name: string, options?: BucketOptions): Promise<Bucket>;
  /** Creates the stream or updates the settings of an existing one. */
  ensureStream(settings: StreamSettings): Promise<void>;
  /** Everything that reads a stream. Only the controller may. */
  consumersOf(stream: string): Promise<StreamConsumer[]>;
  /** Its reader gets nothing more. Removing one that is gone is no error. Only the controller may. */
  removeConsumer(stream: string, name: string): Promise<void>;
  /** Removes the messages of a stream on one subject up to a sequence. Only the controller may. */
  removeStored(options: RemoveOptions): Promise<void>;
  /**
   * Asks the store for the state of each stream, and rejects when one does not answer within `timeoutMs`: a stream can hang
   * while the server goes on. Only the controller may.
   */
  checkStore(options: { readonly timeoutMs: number }): Promise<void>;
  /** Delivers every message of a stream, oldest first, then each new one. Survives reconnects and wiped stores. */
  followStream(options: FollowStreamOptions): StreamFollow;
  /** Lets running handlers answer, sends what is buffered, then closes. */
  drain(): Promise<void>;
  /** Closes at once. Pending operations fail with BUS_DISCONNECTED. */
  close(): Promise<void>;
}

/** What the owner of the store's disk knows. Set by the controller, whose nats-server shares its disk. */
export type StoreGuard = {
  /** Rejects when a write of this size must not be tried now. */
  readonly beforeWriting: (bytes: number) => Promise<void>;
  /** A write to this bucket was acknowledged. */
  readonly written: (bucket: string) => void;
  /** The error to throw for an operation that failed without a clear cause. `unwritten`: the bucket, where it was a write. */
  readonly explain: (error: CulvertError, unwritten?: string) => Promise<CulvertError>;
};

export type RequestOptions = { readonly timeoutMs: number; readonly signal?: AbortSignal };

export type ServeHandler = (message: BusMessage) => Promise<Uint8Array | undefined> | Uint8Array | undefined;

export type BusMessage = { readonly subject: string; readonly bytes: Uint8Array };

export type DeniedOperation = { readonly operation: 'publish' | 'subscribe'; readonly subject: string };

export type StreamSettings = {
  readonly name: string;
  readonly subjects: readonly string[];
  /** Older messages are dropped; 0: no limit. */
  readonly maxAgeMs: number;
  /** Beyond it the oldest messages are dropped, or new ones refused. */
  readonly maxBytes: number;
  readonly whenFull: 'drop oldest' | 'refuse new';
  /** Larger messages are refused; absent: the server's limit. */
  readonly maxMessageBytes?: number;
};

export type StreamConsumer = {
  readonly name: string;
  /** Where its messages go; null: they are fetched. */
  readonly deliverSubject: string | null;
  readonly createdMs: number;
  /** Whether somewhere a client listens there. */
  readonly hasReader: boolean;
  /** How long it stays without a reader; null: for ever. */
  readonly idleMs: number | null;
};

export type RemoveOptions = { readonly stream: string; readonly subject: string; readonly upToSequence: number };

export type FollowStreamOptions = {
  readonly stream: string;
  /** Subjects, wildcards allowed. */
  readonly filter: string;
  /** Called before every attempt, to create a missing stream. When it throws, the attempt has failed. */
  readonly prepare: () => Promise<void>;
  readonly onMessage: (message: StoredMessage) => void;
  /** Called each time {@link StreamFollow.isCurrent} becomes true. */
  readonly onCurrent?: () => void;
  /** Called for a failure; following resumes by itself. */
  readonly onProblem: (error: unknown) => void;
  readonly signal: AbortSignal;
};

/**
 * `storedAtMs` is by the server's clock. `sequence`: in the stream; it starts again at 1 when the store was wiped.
 * `sizeBytes`: of subject, headers and content.
 */
export type StoredMessage = BusMessage & {
  readonly storedAtMs: number;
  readonly sequence: number;
  readonly sizeBytes: number;
};

export interface StreamFollow {
  /** True while all stored messages have been delivered and new ones arrive. */
  readonly isCurrent: boolean;
  /** Settles when the signal or the close of the bus has ended it. */
  readonly closed: Promise<void>;
}
