/**
 * A JetStream key-value bucket. Keys are dot-separated tokens of letters, digits, `-`, `_`, `/`, `=`.
 * Revisions count up per bucket, start again at 1 when the store was wiped, and are no version of the content.
 * Errors as in `Bus`, and `BUS_CONFLICT` when a compare-and-set lost.
 */
export interface Bucket {
  readonly name: string;
  /** Undefined when the key is absent or deleted. */
  get(key: string): Promise<BucketEntry | undefined>;
  /** Returns the new revision. */
  put(key: string, value: Uint8Array): Promise<number>;
  /** Only when the key is absent or deleted, else BUS_CONFLICT. */
  create(key: string, value: Uint8Array): Promise<number>;
  /** Only when the key's last revision is this one, else BUS_CONFLICT. */
  update(key: string, value: Uint8Array, expectedRevision: number): Promise<number>;
  /** Deleting an absent key is no error. */
  delete(key: string): Promise<void>;
  /**
   * Removes the markers that deletions leave behind once they are older than this, so that a bucket whose keys come and
   * go does not grow for ever. Only for whoever may create the bucket. Returns how many.
   */
  compact(options: { olderThanMs: number }): Promise<number>;
  /** The present keys, optionally only those under `prefix.`. */
  keys(options?: { prefix?: string }): Promise<string[]>;
  /** The present entries, optionally only those under `prefix.`. */
  entries(options?: { prefix?: string }): Promise<BucketEntry[]>;
  /**
   * Delivers the present entries, calls `onReady` once, then every change. It survives reconnects, restarts of the
   * server and wiped stores: it lists anew, delivers what differs from what it delivered before and a deletion for
   * every key that is gone. Ends with the signal, and with nothing else. A bucket that does not exist (yet) is a
   * problem that is tried again, never an empty list.
   */
  watch(options: WatchOptions): BucketWatch;
}

export type BucketEntry = { readonly key: string; readonly value: Uint8Array; readonly revision: number };

export type BucketChange =
  | ({ readonly operation: 'put' } & BucketEntry)
  /** Somebody deleted it, or it was missing when the bucket was listed anew (a wiped or restored store, too). */
  | { readonly operation: 'delete'; readonly key: string };

export type WatchOptions = {
  /** Only keys under `prefix.` (a whole token), e.g. `workload`; absent: all. */
  readonly prefix?: string;
  /** Only this one key; wins over `prefix`. */
  readonly key?: string;
  readonly onEntry: (change: BucketChange) => void;
  /** Called once, when the first list is complete (also when it is empty). */
  readonly onReady: () => void;
  /** Called when a list or the delivery failed; the watch tries again by itself. */
  readonly onProblem?: (error: unknown) => void;
  readonly signal: AbortSignal;
};

export interface BucketWatch {
  /** True while the watch is listed and live; false while it has to be built up anew. */
  readonly isLive: boolean;
  /** Settles when the signal has ended the watch and nothing of it is left. */
  readonly closed: Promise<void>;
}

export type BucketOptions = {
  /** Creates the bucket, or brings it to these settings; only the controller may. Absent: bind to what is there. */
  readonly create?: BucketSettings;
};

export type BucketSettings = {
  /** How many values of a key are kept, 1 to 64. */
  readonly history: number;
  /** Bytes on disk; writes fail with BUS_STORE_FULL beyond it. -1: no bound of its own. */
  readonly maxBytes: number;
  /** 1, or 3 in a cluster. */
  readonly replicas: 1 | 3 | 5;
};
