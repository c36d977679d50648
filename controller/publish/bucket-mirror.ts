import type { Bucket, BucketEntry } from '../../shared/bus/bucket.js';

/** Number of concurrent deletions; JetStream acknowledges each one after storing it. */
const parallelDeletions = 32;

/**
 * Brings a bucket to a wanted content with as few writes as possible. It knows what the bucket held when it was listed, and
 * what it wrote since. Only one process may write to the bucket. Every write stops at the first error; call it again then.
 */
export class BucketMirror {
  readonly bucket: Bucket;
  readonly #known: Map<string, Uint8Array>;

  private constructor(bucket: Bucket, known: Map<string, Uint8Array>) {
    this.bucket = bucket;
    this.#known = known;
  }

  /** Starts from the entries that the bucket holds now. Keys that are not `isManaged` are left alone. */
  static of(bucket: Bucket, entries: readonly BucketEntry[], isManaged: (key: string) => boolean): BucketMirror {
    const managed = entries.filter((entry) => isManaged(entry.key));
    return new BucketMirror(bucket, new Map(managed.map((entry) => [entry.key, entry.value])));
  }

  /** The value of a managed key, as last listed or written. */
  get(key: string): Uint8Array | undefined {
    return this.#known.get(key);
  }

  get keys(): readonly string[] {
    return [...this.#known.keys()];
  }

  async put(key: string, value: Uint8Array): Promise<void> {
    if (isSame(this.#known.get(key), value)) return;
    await this.bucket.put(key, value);
    this.#known.set(key, value);
  }

  async delete(key: string): Promise<void> {
    if (!this.#known.has(key)) return;
    await this.bucket.delete(key);
    this.#known.delete(key);
  }

  /** Whether {@link converge} would write nothing. */
  holds(wanted: ReadonlyMap<string, Uint8Array>): boolean {
    if (this.#known.size !== wanted.size) return false;
    for (const [key, value] of wanted) if (!isSame(this.#known.get(key), value)) return false;
    return true;
  }

  /** Writes the values that differ, in their order. */
  async write(wanted: ReadonlyMap<string, Uint8Array>): Promise<void> {
    const different = new Map([...wanted].filter(([key, value]) => !isSame(this.#known.get(key), value)));
    await this.bucket.putAll(different);
    for (const [key, value] of different) this.#known.set(key, value);
  }

  /** Deletes managed keys that are not wanted. */
  async prune(wanted: ReadonlyMap<string, Uint8Array>): Promise<void> {
    await this.remove([...this.#known.keys()].filter((key) => !wanted.has(key)));
  }

  /** Deletes these keys. */
  async remove(keys: readonly string[]): Promise<void> {
    await runInParallel(keys.map((key) => () => this.delete(key)));
  }

  async converge(wanted: ReadonlyMap<string, Uint8Array>): Promise<void> {
    await this.write(wanted);
    await this.prune(wanted);
  }
}

function isSame(known: Uint8Array | undefined, value: Uint8Array): boolean {
  return known === value || (known !== undefined && Buffer.compare(known, value) === 0);
}

async function runInParallel(tasks: readonly (() => Promise<void>)[]): Promise<void> {
  let next = 0;
  let hasFailed = false;
  const lane = async (): Promise<void> => {
    while (next < tasks.length && !hasFailed) {
      const task = tasks[next++];
      try {
        await task?.();
      } catch (error) {
        hasFailed = true;
        throw error;
      }
    }
  };
  const lanes = await Promise.allSettled(Array.from({ length: Math.min(parallelDeletions, tasks.length) }, lane));
  const failure = lanes.find((result) => result.status === 'rejected');
  if (failure !== undefined) throw failure.reason;
}
