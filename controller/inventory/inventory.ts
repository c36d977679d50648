import { CulvertError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { SerialQueue } from '../../shared/serial-queue.js';
import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import {
  documentsSource,
  type InventorySource,
  type SourceChange,
  type SourceEntry,
  type SourceOutcome,
} from './inventory-source.js';
import { InventoryLog, type WholeInventory } from './inventory-log.js';
import { writtenEntry, type WrittenChange, type WrittenEntry } from './inventory-records.js';
import { MergedRegistry, type AppliedChange, type HeldEntry } from './merged-registry.js';
import { registryEntries } from './registry-entries.js';
import { registryKeyOf, type StoredResource } from './stored-resource.js';

type InventoryFile = Pick<InventoryLog, 'append' | 'replace' | 'close'>;
export type WrapFile = (file: InventoryLog) => InventoryFile;

/** What happens with a change after it was looked at in place. */
export type Judged<T> = { readonly isKept: boolean; readonly value: T };

/** What a change touched that is on disk, for those who publish it. */
export type InventoryChanged = {
  /** Registry keys. */
  readonly published: ReadonlySet<string>;
  /** Keys of documents. */
  readonly documents: ReadonlySet<string>;
};

type Waiting = {
  readonly source: string;
  readonly change: () => SourceChange;
  readonly judge: (applied: AppliedChange) => Judged<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
};
type Kept = { readonly applied: AppliedChange; readonly written: WrittenChange };

/**
 * The registry of workloads and services, next to the rules and without a revision: fed by sources, on disk in
 * `inventory.log`, with a sequence of its own that each change counts up. What is published of it is another's business
 * ({@link onChange}); nothing is told of before it is on disk.
 *
 * Changes that arrive while one is being written share the next write. Each is applied to the memory, looked at there, and
 * taken back when it is refused or the disk fails, so that a change costs what it touches.
 */
export class Inventory {
  readonly #trustDomain: string;
  readonly #merged = new MergedRegistry();
  readonly #turns = new SerialQueue();
  readonly #waiting: Waiting[] = [];
  #file: InventoryFile | undefined;
  /** 1 before the first change: the root of an empty registry has a sequence too. */
  #sequence = 1;
  #revision = 0;
  #isUsable = false;
  #sorted: { readonly sequence: number; readonly entries: readonly RegistryEntry[] } | null = null;
  readonly #listeners: ((changed: InventoryChanged) => void)[] = [];

  private constructor({ trustDomain }: { readonly trustDomain: string }) {
    this.#trustDomain = trustDomain;
  }

  /** Opens or makes `inventory.log` at `path`. Errors: `JOURNAL_READ`, `JOURNAL_WRITE`, `STORE_INVALID`. */
  static async open(init: {
    readonly path: string;
    readonly log: Log;
    readonly nowMs: () => number;
    readonly trustDomain: string;
    /** For tests: stands between the inventory and its file. */
    readonly wrapFile?: WrapFile;
  }): Promise<Inventory> {
    const { path, log, nowMs, trustDomain, wrapFile = (file) => file } = init;
    const inventory = new Inventory({ trustDomain });
    const { file, content } = await InventoryLog.open({ path, log, nowMs, whole: () => inventory.#whole() });
    inventory.#file = wrapFile(file);
    if (content === undefined) return inventory;
    for (const written of content.entries) inventory.#load([written], [], written.source, written.sequence);
    inventory.#settleSequences(content.sequences);
    for (const { source, upserts, removals, sequence } of content.changes) {
      inventory.#load(upserts, removals, source, sequence);
    }
    inventory.#sequence = content.sequence;
    inventory.#revision = content.revision;
    inventory.#isUsable = true;
    return inventory;
  }

  /** Rises with every change. What is published at a sequence never changes. */
  get sequence(): number {
    return this.#sequence;
  }

  /** The newest revision of the rules whose part the inventory has taken. */
  get revision(): number {
    return this.#revision;
  }

  /** False when its file was absent or damaged at the start, until `adopt` says what belongs in it. Changes wait for that. */
  get isUsable(): boolean {
    return this.#isUsable;
  }

  /** What is registered, by lookups that cost the same however many entries there are. */
  get registry(): Pick<
    MergedRegistry,
    'published' | 'registered' | 'conflicts' | 'ownerOf' | 'claimantsOf' | 'hasIdentity'
  > {
    return this.#merged;
  }

  /** What the documents source holds, by registry key. */
  get documents(): ReadonlyMap<string, HeldEntry> {
    return this.#merged.heldBy(documentsSource);
  }

  /** All entries in the order of their keys: of tens of thousands, so nothing that happens with every change asks for it. */
  get entries(): readonly RegistryEntry[] {
    if (this.#sorted?.sequence === this.#sequence) return this.#sorted.entries;
    const sorted = [...this.#merged.published].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, { entry }]) => entry);
    this.#sorted = { sequence: this.#sequence, entries: sorted };
    return sorted;
  }

  /** Called when a change is on disk, for as long as the inventory lives. */
  onChange(listener: (changed: InventoryChanged) => void): void {
    this.#listeners.push(listener);
  }

  source(name: string): InventorySource {
    const change = (make: () => SourceChange): Promise<SourceOutcome> =>
      this.change(name, make, ({ held, conflicts }) => ({
        isKept: true,
        value: { sequence: this.#sequence, changes: held.size, conflicts },
      }));
    return {
      name,
      change: (wanted) => change(() => wanted),
      replaceAll: (entries) => {
        const upserts = [...entries];
        return change(() => {
          const wanted = new Set(upserts.map(({ entry }) => `${entry.kind}.${entry.namespace}.${entry.name}`));
          return { upserts, removals: [...this.#merged.heldBy(name).keys()].filter((key) => !wanted.has(key)) };
        });
      },
    };
  }

  /**
   * Makes a change, once those before it are made and the inventory {@link isUsable}. `change` says what it is, and `judge` looks at the registry with the
   * change in it: both at once, with nothing in between. Resolves when it is on disk; what is not kept is taken back.
   * Errors: those of the two, and `JOURNAL_WRITE` (nothing was changed).
   */
  change<T>(source: string, change: () => SourceChange, judge: (applied: AppliedChange) => Judged<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ source, change, judge, resolve: (value) => resolve(value as T), reject });
      // Without what it held before, a source would be all that the registry has.
      if (this.#isUsable && this.#waiting.length === 1) void this.#turns.run(() => this.#makeWaiting());
    });
  }

  /** Nothing changes meanwhile but what `work` does. */
  exclusively<T>(work: (turn: InventoryTurn) => Promise<T>): Promise<T> {
    return this.#turns.run(() =>
      work({
        probe: (change, look) => {
          const applied = this.#merged.apply(documentsSource, change, this.#sequence + 1);
          this.#sorted = null;
          try {
            return look(applied);
          } finally {
            applied.undo();
            this.#sorted = null;
          }
        },
        commit: (change, revision) => this.#write([this.#apply(documentsSource, change, revision)]),
        adopt: (documents, o) => this.#adopt(documents, o),
      }),
    );
  }

  /** Looks at it when everything that it holds is on disk. */
  whenDurable<T>(look: () => T): Promise<T> {
    return this.#turns.run(() => Promise.resolve(look()));
  }

  /** An entry of the documents source. Throws CulvertError `STORE_INVALID` for what gives no entry. */
  entryOf(document: StoredResource): SourceEntry {
    const made = registryEntries([document.resource], this.#trustDomain);
    const entry = 'entries' in made ? made.entries[0] : undefined;
    if (entry !== undefined) return { entry, document };
    throw new CulvertError({
      code: 'STORE_INVALID',
      message: `this version refuses ${document.key}, which is stored`,
      hint: 'run the version that was running before, correct the document there, then upgrade',
    });
  }

  async close(): Promise<void> {
    await this.#turns.idle();
    await this.#file?.close();
  }

  async #makeWaiting(): Promise<void> {
    const kept: Kept[] = [];
    const answers: (() => void)[] = [];
    const failures: ((error: unknown) => void)[] = [];
    for (const { source, change, judge, resolve, reject } of this.#waiting.splice(0)) {
      const sequence = this.#sequence;
      let made: Kept | null = null;
      try {
        made = this.#apply(source, change());
        const { isKept, value } = judge(made.applied);
        if (isKept && made.applied.held.size > 0) kept.push(made);
        else this.#takeBack(made, sequence);
        // What stays as it is may stay so because of a change that is not on disk yet.
        answers.push(() => resolve(value));
        failures.push(reject);
      } catch (error) {
        if (made !== null) this.#takeBack(made, sequence);
        reject(error);
      }
    }
    try {
      await this.#write(kept);
      for (const answer of answers) answer();
    } catch (error) {
      for (const fail of failures) fail(error);
    }
  }

  /** A change that changes nothing keeps the sequence. */
  #apply(source: string, change: SourceChange, revision?: number): Kept {
    const sequence = this.#sequence + 1;
    const applied = this.#merged.apply(source, change, sequence);
    if (applied.held.size > 0 || revision !== undefined) this.#sequence = sequence;
    const held = this.#merged.heldBy(source);
    const upserts: WrittenEntry[] = [];
    const removals: string[] = [];
    for (const key of applied.held.keys()) {
      const present = held.get(key);
      if (present === undefined) removals.push(key);
      else upserts.push(writtenEntry(present));
    }
    const part = revision === undefined ? {} : { revision };
    return { applied, written: { sequence, source, ...part, upserts, removals } };
  }

  #takeBack({ applied }: Kept, sequence: number): void {
    applied.undo();
    this.#sequence = sequence;
    if ((this.#sorted?.sequence ?? 0) > sequence) this.#sorted = null;
  }

  /** Takes all back when the disk fails. */
  async #write(kept: readonly Kept[]): Promise<void> {
    if (kept.length === 0) return;
    const before = (kept[0]?.written.sequence ?? 1) - 1;
    const revisionBefore = this.#revision;
    for (const { written } of kept) this.#revision = Math.max(this.#revision, written.revision ?? 0);
    try {
      await this.#log.append(kept.map(({ written }) => written));
    } catch (error) {
      for (const one of kept.toReversed()) this.#takeBack(one, before);
      this.#revision = revisionBefore;
      throw error;
    }
    this.#tell(kept.map(({ applied }) => applied));
  }

  #tell(applied: readonly AppliedChange[]): void {
    const published = new Set(applied.flatMap((one) => [...one.published.keys()]));
    const documents = new Set<string>();
    for (const { held } of applied) {
      for (const [key, before] of held) {
        const document = before?.document ?? this.documents.get(key)?.document;
        if (document !== null && document !== undefined) documents.add(document.key);
      }
    }
    for (const listener of this.#listeners) listener({ published, documents });
  }

  /** Replaces what the documents source holds. The sequence never goes back. */
  async #adopt(
    documents: readonly StoredResource[],
    o: { readonly sequence: number; readonly revision: number },
  ): Promise<void> {
    const entries = documents.map((document) => this.entryOf(document));
    const wanted = new Set(documents.map(({ key }) => registryKeyOf(key)));
    const removals = [...this.documents.keys()].filter((key) => !wanted.has(key));
    const before = { sequence: this.#sequence, revision: this.#revision };
    const newest = documents.reduce((highest, { revision }) => Math.max(highest, revision), o.sequence);
    const applied: AppliedChange[] = [];
    applied.push(this.#merged.apply(documentsSource, { upserts: [], removals }, Math.max(this.#sequence, newest)));
    for (const entry of entries) {
      const sequence = entry.document?.revision ?? newest;
      applied.push(this.#merged.apply(documentsSource, { upserts: [entry], removals: [] }, sequence));
    }
    this.#sequence = Math.max(this.#sequence, newest);
    this.#revision = o.revision;
    this.#sorted = null;
    try {
      await this.#log.replace();
    } catch (error) {
      for (const one of applied.toReversed()) one.undo();
      this.#sequence = before.sequence;
      this.#revision = before.revision;
      this.#sorted = null;
      throw error;
    }
    this.#isUsable = true;
    this.#tell(applied);
    if (this.#waiting.length > 0) void this.#turns.run(() => this.#makeWaiting());
  }

  get #log(): InventoryFile {
    if (this.#file === undefined) throw new Error('the inventory is not open');
    return this.#file;
  }

  #load(upserts: readonly WrittenEntry[], removals: readonly string[], source: string, sequence: number): void {
    const entries = upserts.map((written): SourceEntry =>
      'document' in written ? this.entryOf(written.document) : { entry: written.entry, document: null },
    );
    this.#merged.apply(source, { upserts: entries, removals }, sequence);
  }

  #settleSequences(sequences: ReadonlyMap<string, number>): void {
    for (const [key, sequence] of this.#sequencesOfChanges()) {
      this.#merged.setSequence(key, sequences.get(key) ?? sequence);
    }
  }

  /** Of each published entry, the sequence of the change that brought it from its source. */
  *#sequencesOfChanges(): Generator<[string, number]> {
    for (const key of this.#merged.published.keys()) {
      const winner = this.#merged.winnerOf(key);
      if (winner !== undefined) yield [key, winner.sequence];
    }
  }

  #whole(): WholeInventory {
    const sequences: Record<string, number> = {};
    for (const [key, sequence] of this.#sequencesOfChanges()) {
      const published = this.#merged.published.get(key)?.sequence ?? sequence;
      if (published !== sequence) sequences[key] = published;
    }
    const held = [...this.#merged.sources].flatMap((source) => [...this.#merged.heldBy(source).values()]);
    return { sequence: this.#sequence, revision: this.#revision, held, sequences };
  }
}

/** What may be done while nobody else changes anything. All of it is about the documents source. */
export type InventoryTurn = {
  /** Looks at the registry with a change in it, which is taken back at once. */
  readonly probe: <T>(change: SourceChange, look: (applied: AppliedChange) => T) => T;
  /** Makes a change that is a part of a revision of the rules, on disk. Errors: `JOURNAL_WRITE` (nothing was changed). */
  readonly commit: (change: SourceChange, revision: number) => Promise<void>;
  /**
   * Replaces all documents by those that are known to have been applied up to a sequence and a revision, on disk. Each
   * counts from its own revision. Errors: `JOURNAL_WRITE` (nothing was changed), `STORE_INVALID`.
   */
  readonly adopt: (
    documents: readonly StoredResource[],
    o: { readonly sequence: number; readonly revision: number },
  ) => Promise<void>;
};
