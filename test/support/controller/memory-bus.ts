import type { Bucket, BucketEntry } from '../../../shared/bus/bucket.js';
import type { Bus } from '../../../shared/bus/bus.js';
import { CulvertError } from '../../../shared/errors.js';

/** Runs before each write of a bucket: it may wait, or throw so that the write fails. */
export type BeforeWrite = (write: { readonly bucket: string; readonly key: string }) => Promise<void> | void;

/** Buckets in memory, for tests of who writes what when. Only what the controller's store needs of a bus. */
export class MemoryBus {
  readonly #buckets = new Map<string, MemoryBucket>();
  beforeWrite: BeforeWrite = () => undefined;

  get bus(): Bus {
    const bus: Pick<Bus, 'status' | 'bucket'> = {
      status: 'connected',
      bucket: (name) => Promise.resolve(this.of(name)),
    };
    return bus as Bus;
  }

  of(name: string): Bucket {
    const present =
      this.#buckets.get(name) ?? new MemoryBucket(name, async (key) => this.beforeWrite({ bucket: name, key }));
    this.#buckets.set(name, present);
    return present;
  }
}

class MemoryBucket implements Bucket {
  readonly name: string;
  readonly #before: (key: string) => Promise<void>;
  readonly #entries = new Map<string, BucketEntry>();
  #revision = 0;

  constructor(name: string, before: (key: string) => Promise<void>) {
    this.name = name;
    this.#before = before;
  }

  get(key: string): Promise<BucketEntry | undefined> {
    return Promise.resolve(this.#entries.get(key));
  }

  async put(key: string, value: Uint8Array): Promise<number> {
    await this.#before(key);
    return this.#set(key, value);
  }

  async putAll(values: ReadonlyMap<string, Uint8Array>): Promise<void> {
    for (const [key, value] of values) await this.put(key, value);
  }

  async create(key: string, value: Uint8Array): Promise<number> {
    await this.#before(key);
    if (this.#entries.has(key)) throw conflict();
    return this.#set(key, value);
  }

  async update(key: string, value: Uint8Array, expectedRevision: number): Promise<number> {
    await this.#before(key);
    if (this.#entries.get(key)?.revision !== expectedRevision) throw conflict();
    return this.#set(key, value);
  }

  async delete(key: string): Promise<void> {
    await this.#before(key);
    this.#entries.delete(key);
  }

  compact(): Promise<number> {
    return Promise.resolve(0);
  }

  keys({ prefix }: { prefix?: string } = {}): Promise<string[]> {
    return Promise.resolve(
      [...this.#entries.keys()].filter((key) => prefix === undefined || key.startsWith(`${prefix}.`)),
    );
  }

  async entries(options: { prefix?: string } = {}): Promise<BucketEntry[]> {
    const keys = await this.keys(options);
    return keys.flatMap((key) => this.#entries.get(key) ?? []);
  }

  watch(): never {
    throw new Error('this bucket is not watched');
  }

  #set(key: string, value: Uint8Array): number {
    this.#revision += 1;
    this.#entries.set(key, { key, value, revision: this.#revision });
    return this.#revision;
  }
}

function conflict(): CulvertError {
  return new CulvertError({ code: 'BUS_CONFLICT', message: 'the key has another revision' });
}
