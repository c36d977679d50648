/**
 * A JetStream key-value bucket. Keys are dot-separated tokens of letters, digits, `-`, `_`, `/`, `=`.
 * Revisions increase per bucket and restart at 1 when the store was wiped, so they are not a version of the content.
 * Errors: as in `Bus`, and `BUS_CONFLICT` when a compare-and-set fails.
 */
export interface Bucket {
  readonly name: string;
  /** Undefined when the key is absent or deleted. */
  get(key: string): Promise<BucketEntry | undefined>;
  /** Returns the new revision. */
  put(key: string, value: Uint8Array): Promise<number>;
  /**
   * Writes all values, in this order and at a fraction of the cost of single writes. Resolves when all are stored. After an
   * error any of them may be stored or not.
   */
  putAll(values: ReadonlyMap<string, Uint8Array>): Promise<void>;
  /** Writes only when the key is absent or deleted, else BUS_CONFLICT. */
  create(key: string, value: Uint8Array): Promise<number>;
  /** Writes only when the key's last revision is `expectedRevision`, else BUS_CONFLICT. */
  update(key: string, value: Uint8Array, expectedRevision: number): Promise<number>;
  /** Deleting an absent key is not an error. */
  delete(key: string): Promise<void>;
  /**
   * Removes deletion markers older than `olderThanMs`, so that a bucket whose keys come and go does not grow forever. Needs
   * the permissions to create the bucket. Returns how many it removed.
   */
  compact(options: { olderThanMs: number }): Promise<number>;
  /** The present keys, optionally only those under `prefix.`. */
  keys(options?: { prefix?: string }): Promise<string[]>;
  /** The present entries, optionally only those under `prefix.`. */
  entries(options?: { prefix?: string }): Promise<BucketEntry[]>;
  /**
   * Delivers the present entries, calls `onReady` once, then delivers every change. It survives reconnects, server restarts
   * and wiped stores: it lists the bucket again and delivers only the differences, with a deletion for every key that is
   * gone. Only the signal ends it. A bucket that does not exist (yet) is reported and retried, never taken for an empty list.
   */
  watch(options: WatchOptions): BucketWatch;
}

export type BucketEntry = { readonly key: string; readonly value: Uint8Array; readonly revision: number };

export type BucketChange =
  | ({ readonly operation: 'put' } & BucketEntry)
  /** The key was deleted, or missing when the bucket was listed again (also after a wiped or restored store). */
  | { readonly operation: 'delete'; readonly key: string };

export type WatchOptions = {
  /** Only keys under `prefix.` (a whole token), e.g. `workload`; absent: all. */
  readonly prefix?: string;
  /** Only this key; takes precedence over `prefix`. */
  readonly key?: string;
  readonly onEntry: (change: BucketChange) => void;
  /** Called once, when the first list is complete, even if it is empty. */
  readonly onReady: () => void;
  /** Called when listing or delivery failed; the watch retries by itself. */
  readonly onProblem?: (error: unknown) => void;
  readonly signal: AbortSignal;
};

export interface BucketWatch {
  /** True while the list is complete and changes arrive; false while the watch starts over. */
  readonly isLive: boolean;
  /** Settles when the signal has ended the watch and its resources are released. */
  readonly closed: Promise<void>;
}

export type BucketOptions = {
  /** Creates the bucket or updates its settings; only the controller may. Absent: uses an existing bucket. */
  readonly create?: BucketSettings;
};

export type BucketSettings = {
  /** How many values per key are kept, 1 to 64. */
  readonly history: number;
  /** Maximum bytes on disk; writes beyond it fail with BUS_STORE_FULL. -1: no limit of its own. */
  readonly maxBytes: number;
  /** 1, or 3 in a cluster. */
  readonly replicas: 1 | 3 | 5;
};
