import { performance } from 'node:perf_hooks';
import { setImmediate, setTimeout as delay } from 'node:timers/promises';
import type { Inventory, InventoryChanged } from '../inventory/inventory.js';
import type { PublishedEntry } from '../inventory/merged-registry.js';
import { listedEntry, RegistryPages, type ListedEntry } from '../inventory/registry-pages.js';
import { registryKeyOf, type StoredResource } from '../inventory/stored-resource.js';
import { sealRegistryRoot } from '../../shared/wire/registry-root.js';
import { sealRegistryEntry } from '../../shared/wire/signed.js';
import type { RegistryContent, RegistryUpdate } from './registry-publisher.js';

/**
 * Minimum time between two publications, so that a burst of changes makes one root and writes each page once. The first
 * change after a pause does not wait.
 */
const windowMs = 100;
/** Entries sealed per turn, which takes a few milliseconds. */
const sealedAtOnce = 100;

/** Keys and values of `culvert_config`. */
type DocumentsUpdate = {
  readonly documents: ReadonlyMap<string, Uint8Array>;
  readonly goneDocuments: readonly string[];
};
export type InventoryUpdate = RegistryUpdate & DocumentsUpdate;
export type InventoryContent = RegistryContent & Pick<DocumentsUpdate, 'documents'>;

/** Where the inventory is published. Errors as in `Bus`. */
export type InventoryTarget = {
  readonly publishInventory: (update: InventoryUpdate) => Promise<void>;
  readonly convergeInventory: (content: InventoryContent) => Promise<void>;
};

type Waiter = { readonly sequence: number; readonly resolve: () => void; readonly reject: (error: unknown) => void };

/**
 * Publishes changes of the inventory as soon as they are on disk: seals the changed entries, puts them into pages, and writes
 * both. Starts with {@link settle}; after a failure it stops until the next call of that.
 */
export class InventoryPublication {
  readonly #inventory: Inventory;
  readonly #privateKeyPem: string;
  readonly #onFailure: (error: unknown) => void;
  readonly #pages = new RegistryPages();
  /** Sealed entries, cached because a signature costs more than everything else. The same entry gives the same bytes. */
  readonly #listed = new WeakMap<PublishedEntry, ListedEntry>();
  /** Registry keys that are to be published. */
  #published = new Set<string>();
  /** Keys of documents that are to be published. */
  #documents = new Set<string>();
  readonly #encoded = new WeakMap<StoredResource, Uint8Array>();
  #waiters: Waiter[] = [];
  #target: InventoryTarget | null = null;
  /** The sequence that the target holds. */
  #reached = 0;
  #running: Promise<void> | null = null;

  constructor(init: {
    readonly inventory: Inventory;
    readonly privateKeyPem: string;
    /** Writing to the target failed; nothing more is written before {@link settle}. */
    readonly onFailure: (error: unknown) => void;
  }) {
    this.#inventory = init.inventory;
    this.#privateKeyPem = init.privateKeyPem;
    this.#onFailure = init.onFailure;
    for (const key of init.inventory.registry.published.keys()) this.#published.add(key);
    init.inventory.onChange((changed) => this.#note(changed));
  }

  /** Stops publishing until the next {@link settle}. Callers of {@link reached} wait for it, or for {@link abandon}. */
  suspend(): void {
    this.#target = null;
  }

  /** Brings the target to the whole inventory, then publishes every change. Errors: those of the target. */
  async settle(target: InventoryTarget): Promise<void> {
    this.#target = null;
    await this.#running;
    while (this.#published.size > sealedAtOnce) {
      await this.#inventory.readDurable(() => this.#sealSome());
      await setImmediate();
    }
    const content = await this.#inventory.readDurable(() => this.#content());
    await target.convergeInventory(content);
    this.#target = target;
    this.#reach(content.root.sequence);
    this.#publishSoon();
  }

  /** Resolves when the target has the inventory as of this sequence; rejects when writing it failed. */
  reached(sequence: number): Promise<void> {
    if (this.#reached >= sequence) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiters.push({ sequence, resolve, reject }));
  }

  /** Rejects all callers of {@link reached}, because the target cannot be reached. */
  abandon(error: unknown): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const { reject } of waiters) reject(error);
  }

  /** Resolves when nothing is being written. */
  async idle(): Promise<void> {
    await this.#running;
  }

  #note({ published, documents }: InventoryChanged): void {
    for (const key of published) this.#published.add(key);
    for (const key of documents) this.#documents.add(key);
    this.#publishSoon();
  }

  #publishSoon(): void {
    if (this.#target === null || this.#running !== null) return;
    if (this.#reached >= this.#inventory.sequence) return;
    this.#running = this.#publishAll(this.#target).finally(() => {
      this.#running = null;
      this.#publishSoon();
    });
  }

  /** Never rejects. */
  async #publishAll(target: InventoryTarget): Promise<void> {
    try {
      while (this.#target === target && this.#reached < this.#inventory.sequence) {
        const startedAt = performance.now();
        await this.#sealAhead();
        // A suspension may have come while this waited: its rules are not published yet.
        const update = await this.#inventory.readDurable(() => (this.#target === target ? this.#update() : null));
        if (update === null) return;
        await target.publishInventory(update);
        this.#reach(update.root.sequence);
        await delay(Math.max(0, windowMs - (performance.now() - startedAt)));
      }
    } catch (error) {
      this.#target = null;
      this.abandon(error);
      this.#onFailure(error);
    }
  }

  #reach(sequence: number): void {
    this.#reached = Math.max(this.#reached, sequence);
    const reached = this.#waiters.filter((waiter) => waiter.sequence <= sequence);
    this.#waiters = this.#waiters.filter((waiter) => waiter.sequence > sequence);
    for (const { resolve } of reached) resolve();
  }

  /** What changed since the last publication. */
  #update(): InventoryUpdate {
    const entries = new Map<string, Uint8Array>();
    const goneEntries: string[] = [];
    for (const key of this.#published) {
      const sealed = this.#seal(key);
      if (sealed === null) goneEntries.push(key);
      else entries.set(key, sealed);
    }
    this.#published.clear();
    const documents = new Map<string, Uint8Array>();
    const goneDocuments: string[] = [];
    for (const key of this.#documents) {
      const document = this.#inventory.documents.get(registryKeyOf(key))?.document;
      if (document === null || document === undefined) goneDocuments.push(key);
      else documents.set(key, this.#encode(document));
    }
    this.#documents.clear();
    const { changed, gone, root, sealedRoot } = this.#list();
    return { entries, goneEntries, documents, goneDocuments, pages: changed, gonePages: gone, root, sealedRoot };
  }

  #content(): InventoryContent {
    for (const key of this.#published) this.#seal(key);
    this.#published.clear();
    this.#documents.clear();
    const { root, sealedRoot } = this.#list();
    const entries = new Map<string, Uint8Array>();
    for (const { key, sealed } of this.#pages.entries()) entries.set(key, sealed);
    const documents = new Map<string, Uint8Array>();
    for (const { document } of this.#inventory.documents.values()) {
      if (document !== null) documents.set(document.key, this.#encode(document));
    }
    return { entries, documents, pages: this.#pages.published, root, sealedRoot };
  }

  /** Signs a large change in steps. {@link #update} then finds the signatures and does not block for them. */
  async #sealAhead(): Promise<void> {
    const keys = this.#published.size > sealedAtOnce ? [...this.#published] : [];
    for (let at = 0; at < keys.length; at += sealedAtOnce) {
      await this.#inventory.readDurable(() => keys.slice(at, at + sealedAtOnce).forEach((key) => this.#seal(key)));
      await setImmediate();
    }
  }

  #sealSome(): void {
    let count = 0;
    for (const key of this.#published) {
      if (count++ === sealedAtOnce) return;
      this.#seal(key);
      this.#published.delete(key);
    }
  }

  #list() {
    const update = this.#pages.update(this.#inventory.sequence);
    return { ...update, sealedRoot: sealRegistryRoot({ root: update.root, privateKeyPem: this.#privateKeyPem }) };
  }

  /** Seals an entry and puts it into its page. Returns null, and removes it from the page, when it is gone. */
  #seal(key: string): Uint8Array | null {
    const published = this.#inventory.registry.published.get(key);
    if (published === undefined) {
      this.#pages.delete(key);
      return null;
    }
    const known = this.#listed.get(published);
    const sealed = known?.sealed ?? sealRegistryEntry({ ...published, privateKeyPem: this.#privateKeyPem });
    const listed = known ?? listedEntry({ key, sequence: published.sequence, sealed });
    this.#listed.set(published, listed);
    if (this.#pages.get(key) !== listed) this.#pages.put(listed);
    return sealed;
  }

  #encode(document: StoredResource): Uint8Array {
    const known = this.#encoded.get(document);
    if (known !== undefined) return known;
    const bytes = new TextEncoder().encode(JSON.stringify(document));
    this.#encoded.set(document, bytes);
    return bytes;
  }
}
