import type { Bucket, BucketSettings } from '../../shared/bus/bucket.js';
import type { Bus } from '../../shared/bus/bus.js';
import { buckets } from '../../shared/bus/subjects.js';
import { isIntentKey, readIntent, removeIntent, writeIntent } from './intent.js';
import { isInventoryDocument, type StoredResource } from '../inventory/stored-resource.js';
import type { InventoryContent, InventoryUpdate } from './inventory-publication.js';
import type { Commit } from '../release/committed-state.js';
import { BucketMirror } from './bucket-mirror.js';
import { RegistryPublisher } from './registry-publisher.js';
import type { CompiledRevision } from '../release/compiled-revision.js';
import {
  isInForce,
  pruneSnapshots,
  publishRules,
  readPublishedRules,
  stageSnapshot,
  type PublishedRules,
} from './rules-publisher.js';

/** Only the controller writes these buckets. One value per key is enough, because the journal keeps the history. */
const settings: BucketSettings = { history: 1, maxBytes: -1, replicas: 1 };

/** What the buckets held when they were read. */
export type StoreContent = {
  readonly published: PublishedRules;
  /** Rule documents. */
  readonly resources: readonly StoredResource[];
  /** Documents of the inventory. */
  readonly inventory: readonly StoredResource[];
  /** The sequence of the registry's root; null when there is no root that this controller signed. */
  readonly inventorySequence: number | null;
  /** Keys of `culvert_config` whose value is not a document: damage, or written by another client. */
  readonly unreadable: readonly string[];
  readonly intent: Commit | undefined;
};

type Opened = {
  readonly config: BucketMirror;
  /** Documents of the inventory, in the same bucket as the rules. */
  readonly inventory: BucketMirror;
  readonly rules: Bucket;
  readonly registry: RegistryPublisher;
};

/**
 * The three buckets through which changes reach the mesh. `ResourceStore` decides which state is right; this class writes
 * it. Errors as in `Bus`; after one, call {@link forget} and start again.
 */
export class Distribution {
  readonly #bus: Bus;
  readonly #publicKeyPem: string;
  readonly #onPublished: () => void;
  #opened: Promise<Opened> | undefined;

  constructor(init: {
    readonly bus: Bus;
    readonly publicKeyPem: string;
    /** Rules or registry changed in NATS. */
    readonly onPublished?: () => void;
  }) {
    this.#bus = init.bus;
    this.#publicKeyPem = init.publicKeyPem;
    this.#onPublished = init.onPublished ?? (() => undefined);
  }

  get isConnected(): boolean {
    return this.#bus.status === 'connected';
  }

  /** Drops everything known about the buckets: the next call lists them again. */
  forget(): void {
    this.#opened = undefined;
  }

  async read(): Promise<StoreContent> {
    const { config, inventory, rules, registry } = await this.#open();
    const [documents, registered] = [readAll(config), readAll(inventory)];
    return {
      published: await readPublishedRules(rules, this.#publicKeyPem),
      resources: documents.stored,
      inventory: registered.stored,
      inventorySequence: registry.sequence,
      unreadable: [...documents.unreadable, ...registered.unreadable],
      intent: await readIntent(config.bucket),
    };
  }

  /** Announces a change. It takes effect only when its journal record is written. */
  async stage(commit: Commit, release: CompiledRevision): Promise<void> {
    const { config, rules } = await this.#open();
    await writeIntent(config.bucket, commit);
    await stageSnapshot(rules, commit.revision, release.sealed);
  }

  /**
   * Brings the buckets of the rules to a release, writing only what differs: documents first, then the rules. The registry
   * follows later, so a workload that arrives together with a rule that restricts it is not reachable before that rule is
   * in force. `replacesForeign`: see {@link publishRules}.
   */
  async publish(
    release: CompiledRevision,
    { replacesForeign }: { readonly replacesForeign: boolean },
  ): Promise<'published' | 'superseded'> {
    const { config, rules } = await this.#open();
    await config.converge(release.config);
    const { revision } = release.state;
    const outcome = await publishRules({
      bucket: rules,
      revision,
      sealed: release.sealed,
      publicKeyPem: this.#publicKeyPem,
      replacesForeign,
    });
    if (outcome === 'superseded') return outcome;
    this.#onPublished();
    await pruneSnapshots(rules, revision);
    return 'published';
  }

  /** Writes what changed in the inventory: documents first, then the registry. */
  async publishInventory(update: InventoryUpdate): Promise<void> {
    const { inventory, registry } = await this.#open();
    await inventory.write(update.documents);
    await inventory.remove(update.goneDocuments);
    await registry.publish(update);
    this.#onPublished();
  }

  /** Brings documents and registry to the whole inventory, writing only what differs. */
  async convergeInventory(content: InventoryContent): Promise<void> {
    const { inventory, registry } = await this.#open();
    await inventory.converge(content.documents);
    await registry.converge(content);
  }

  /** Whether the pointer names this release. */
  async holds(release: CompiledRevision): Promise<boolean> {
    const { rules } = await this.#open();
    return isInForce(rules, release.state.revision, release.sealed);
  }

  /** Withdraws an announced change, or closes one that is done. */
  async clearIntent(): Promise<void> {
    const { config } = await this.#open();
    await removeIntent(config.bucket);
  }

  #open(): Promise<Opened> {
    this.#opened ??= this.#list();
    return this.#opened;
  }

  async #list(): Promise<Opened> {
    const create = { create: settings };
    const [config, rules, registry] = await Promise.all([
      this.#bus.bucket(buckets.config, create),
      this.#bus.bucket(buckets.rules, create),
      this.#bus.bucket(buckets.registry, create),
    ]);
    const stored = await config.entries();
    return {
      config: BucketMirror.of(config, stored, (key) => !isIntentKey(key) && !isInventoryDocument(key)),
      inventory: BucketMirror.of(config, stored, isInventoryDocument),
      rules,
      registry: await RegistryPublisher.open(registry, this.#publicKeyPem),
    };
  }
}

function readAll(mirror: BucketMirror): { readonly stored: StoredResource[]; readonly unreadable: string[] } {
  const found = mirror.keys.map((key) => ({ key, stored: decodeStored(key, mirror.get(key)) }));
  return {
    stored: found.map(({ stored }) => stored).filter((stored) => stored !== undefined),
    unreadable: found.filter(({ stored }) => stored === undefined).map(({ key }) => key),
  };
}

/** Checks only the outer shape. Callers that use a document validate it as if it were applied. */
function decodeStored(key: string, bytes: Uint8Array | undefined): StoredResource | undefined {
  try {
    const stored = JSON.parse(new TextDecoder().decode(bytes)) as Partial<StoredResource> | null;
    return stored?.key === key && Number.isSafeInteger(stored.revision) ? (stored as StoredResource) : undefined;
  } catch {
    return undefined;
  }
}
