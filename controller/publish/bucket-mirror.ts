import type { Bucket } from '../../shared/bus/bucket.js';

/** Writes that are under way at once; JetStream answers each after it has stored it. */
const parallelWrites = 32;

/**
 * Brings a bucket to a wanted content with as few writes as possible: it knows what the bucket held when it was last
 * listed and what it wrote since. Only one process may write to the bucket.
 */
export class BucketMirror {
  readonly bucket: Bucket;
  readonly #isManaged: (key: string) => boolean;
  readonly #known: Map<string, Uint8Array>;

  private constructor(bucket: Bucket, isManaged: (key: string) => boolean, known: Map<string, Uint8Array>) {
    this.bucket = bucket;
    this.#isManaged = isManaged;
    this.#known = known;
  }

  /** `isManaged`: keys that are not, are left alone. Errors as in `Bus`. */
  static async list(bucket: Bucket, isManaged: (key: string) => boolean): Promise<BucketMirror> {
    const entries = (await bucket.entries()).filter((entry) => isManaged(entry.key));
    return new BucketMirror(bucket, isManaged, new Map(entries.map((entry) => [entry.key, entry.value])));
  }

  /** What the bucket holds under a managed key, as far as is known. */
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

  /** Whether {@link converge} would have nothing to do, as far as is known. */
  holds(wanted: ReadonlyMap<string, Uint8Array>): boolean {
    if (this.#known.size !== wanted.size) return false;
    return [...wanted].every(([key, value]) => isSame(this.#known.get(key), value));
  }

  /** Writes what differs and deletes managed keys that are not wanted. Stops at the first error; call it again then. */
  async converge(wanted: ReadonlyMap<string, Uint8Array>): Promise<void> {
    const tasks = [...wanted].map(
      ([key, value]) =>
        () =>
          this.put(key, value),
    );
    for (const key of this.#known.keys()) {
      if (!wanted.has(key) && this.#isManaged(key)) tasks.push(() => this.delete(key));
    }
    await runInParallel(tasks);
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
  const lanes = await Promise.allSettled(Array.from({ length: Math.min(parallelWrites, tasks.length) }, lane));
  const failure = lanes.find((result) => result.status === 'rejected');
  if (failure !== undefined) throw failure.reason;
}
