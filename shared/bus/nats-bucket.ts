import {
  DiscardPolicy,
  RetentionPolicy,
  StorageType,
  type JetStreamClient,
  type JetStreamManager,
  type KV,
  type StreamConfig,
} from 'nats';
import { CulvertError } from '../errors.js';
import { newDeferred } from '../deferred.js';
import type { Bucket, BucketEntry, BucketSettings, BucketWatch, WatchOptions } from './bucket.js';
import { RelistingWatch } from './bucket-watch.js';
import type { StoreGuard } from './bus.js';
import { busError, explainedStoreError } from './bus-error.js';
import type { FeedLink } from './feed-loop.js';
import { openFeed, type Feed, type FeedMessage } from './push-feed.js';
import { bucketStream } from './subjects.js';
import { untilLost } from './until-lost.js';

/** {@link Bucket.putAll} writes this much at a time: JetStream drops what it cannot queue. */
const maxBatchKeys = 64;
const maxBatchBytes = 512 * 1024;

export type NatsBucketInit = {
  readonly name: string;
  readonly kv: KV;
  readonly jetStream: JetStreamClient;
  readonly manager: JetStreamManager;
  readonly link: FeedLink;
  /** Throws BUS_DISCONNECTED, so that an operation need not wait for its timeout. */
  readonly assertConnected: (what: string) => void;
  readonly guard: StoreGuard;
};

/** The stream behind a key-value bucket (NATS ADR-8). Writes beyond `maxBytes` are refused; old entries are never dropped. */
export function bucketStreamConfig(name: string, settings: BucketSettings): Partial<StreamConfig> & { name: string } {
  return {
    name: bucketStream(name),
    subjects: [`$KV.${name}.>`],
    max_msgs_per_subject: settings.history,
    max_bytes: settings.maxBytes,
    num_replicas: settings.replicas,
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    discard: DiscardPolicy.New,
    allow_rollup_hdrs: true,
    allow_direct: true,
    deny_delete: true,
    deny_purge: false,
  };
}

/** {@link Bucket} on the `nats` package; `NatsBus.bucket` creates it. */
export class NatsBucket implements Bucket {
  readonly name: string;
  readonly #init: NatsBucketInit;

  constructor(init: NatsBucketInit) {
    this.name = init.name;
    this.#init = init;
  }

  async get(key: string): Promise<BucketEntry | undefined> {
    const entry = await this.#attempt(`read ${key}`, () => this.#init.kv.get(key));
    if (entry === null || entry.operation !== 'PUT') return undefined;
    return { key, value: entry.value, revision: entry.revision };
  }

  put(key: string, value: Uint8Array): Promise<number> {
    return this.#write(`write ${key}`, value.length, () => this.#init.kv.put(key, value));
  }

  async putAll(values: ReadonlyMap<string, Uint8Array>): Promise<void> {
    for (const key of values.keys()) assertKey(key);
    for (const batch of batchesOf(values)) await this.#putBatch(batch);
  }

  create(key: string, value: Uint8Array): Promise<number> {
    return this.#write(`create ${key}`, value.length, () => this.#init.kv.create(key, value));
  }

  update(key: string, value: Uint8Array, expectedRevision: number): Promise<number> {
    return this.#write(`update ${key}`, value.length, () => this.#init.kv.update(key, value, expectedRevision));
  }

  delete(key: string): Promise<void> {
    return this.#write(`delete ${key}`, 0, () => this.#init.kv.delete(key));
  }

  async keys(options: { prefix?: string } = {}): Promise<string[]> {
    const messages = await this.#list(options.prefix, true);
    return messages.filter((message) => !message.isDeletion).map((message) => this.#keyOf(message));
  }

  async entries(options: { prefix?: string } = {}): Promise<BucketEntry[]> {
    const messages = await this.#list(options.prefix, false);
    return messages
      .filter((message) => !message.isDeletion)
      .map((message) => ({ key: this.#keyOf(message), value: message.bytes, revision: message.sequence }));
  }

  async compact(options: { olderThanMs: number }): Promise<number> {
    const newestMs = Date.now() - options.olderThanMs;
    const messages = await this.#list(undefined, true);
    const markers = messages.filter(
      (message) => message.isDeletion && Number(BigInt(message.storedAt) / 1_000_000n) <= newestMs,
    );
    for (const marker of markers) {
      // Purges only up to the marker itself: the key may have been written again since.
      const purge = { filter: marker.subject, seq: marker.sequence + 1 };
      await this.#attempt('compact', () => this.#init.manager.streams.purge(`KV_${this.name}`, purge));
    }
    return markers.length;
  }

  watch(options: WatchOptions): BucketWatch {
    return new RelistingWatch({
      ...options,
      link: this.#init.link,
      feed: {
        stream: `KV_${this.name}`,
        filter: options.key === undefined ? this.#filter(options.prefix) : `${this.#subjectPrefix}${options.key}`,
      },
      subjectPrefixLength: this.#subjectPrefix.length,
    });
  }

  get #subjectPrefix(): string {
    return `$KV.${this.name}.`;
  }

  #filter(prefix: string | undefined): string {
    return prefix === undefined ? `${this.#subjectPrefix}>` : `${this.#subjectPrefix}${prefix}.>`;
  }

  #keyOf(message: FeedMessage): string {
    return message.subject.slice(this.#subjectPrefix.length);
  }

  /**
   * Only the first and the last write are acknowledged. The last is refused unless it follows directly on all the others, so
   * its acknowledgement stands for them. If another client wrote in between, or one was refused, each is written singly.
   */
  async #putBatch(batch: Batch): Promise<void> {
    const [first, ...rest] = batch;
    const last = rest.pop();
    if (first === undefined) return;
    const revision = await this.put(...first);
    if (last === undefined) return;
    const [key, value] = last;
    const lastSequence = revision + rest.length;
    try {
      const bytes = batch.reduce((sum, [, { length }]) => sum + length, 0);
      await this.#write(`write ${batch.length} keys`, bytes, () => {
        for (const [other, bytes] of rest) this.#init.link.connection.publish(`${this.#subjectPrefix}${other}`, bytes);
        return this.#init.jetStream.publish(`${this.#subjectPrefix}${key}`, value, { expect: { lastSequence } });
      });
    } catch (error) {
      if (!(error instanceof CulvertError) || error.code !== 'BUS_CONFLICT') throw error;
      for (const write of [...rest, last]) await this.put(...write);
    }
  }

  /** The last message of every key, deletion markers included. */
  async #list(prefix: string | undefined, isHeadersOnly: boolean): Promise<FeedMessage[]> {
    this.#init.assertConnected(`list the bucket ${this.name}`);
    const messages = new Map<string, FeedMessage>();
    const { promise, resolve, reject } = newDeferred();
    // It may be rejected while the feed opens, when nothing awaits it yet: that must not end the process.
    promise.catch(() => undefined);
    const { connection, inboxPrefix, names, busClosed, onDisconnect } = this.#init.link;
    const fail = (): void =>
      reject(busError('BUS_DISCONNECTED', `the connection was lost while listing the bucket ${this.name}`));
    const stopListening = onDisconnect(fail);
    busClosed.addEventListener('abort', fail, { once: true });
    let feed: Feed | undefined;
    try {
      const opening = openFeed({
        connection,
        inboxPrefix,
        names,
        stream: `KV_${this.name}`,
        filter: this.#filter(prefix),
        isHeadersOnly,
        onMessage: (message) => messages.set(message.subject, message),
        onListed: resolve,
        onEnd: reject,
      });
      feed = await opening;
      await promise;
    } finally {
      stopListening();
      busClosed.removeEventListener('abort', fail);
      feed?.stop();
    }
    return [...messages.values()];
  }

  async #attempt<T>(what: string, step: () => Promise<T>, unwritten?: string): Promise<T> {
    this.#init.assertConnected(`${what} in the bucket ${this.name}`);
    const tried = `cannot ${what} in the bucket ${this.name}`;
    try {
      return await untilLost({ what: tried, answer: step(), onDisconnect: this.#init.link.onDisconnect });
    } catch (error) {
      throw await explainedStoreError(tried, error, this.#init.guard, unwritten);
    }
  }

  async #write<T>(what: string, bytes: number, step: () => Promise<T>): Promise<T> {
    const { guard } = this.#init;
    await guard.beforeWriting(bytes);
    const written = await this.#attempt(what, step, this.name);
    guard.written(this.name);
    return written;
  }
}

type Batch = (readonly [key: string, value: Uint8Array])[];

function* batchesOf(values: ReadonlyMap<string, Uint8Array>): Generator<Batch> {
  let batch: Batch = [];
  let bytes = 0;
  for (const entry of values) {
    batch.push(entry);
    bytes += entry[1].length;
    if (batch.length < maxBatchKeys && bytes < maxBatchBytes) continue;
    yield batch;
    batch = [];
    bytes = 0;
  }
  yield batch;
}

function assertKey(key: string): void {
  if (/^[-/=\w]+(\.[-/=\w]+)*$/.test(key)) return;
  throw busError('BUS_FAILED', `${JSON.stringify(key)} cannot be a key of a bucket`);
}
