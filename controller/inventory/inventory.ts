import { CulvertError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { SerialQueue } from '../../shared/serial-queue.js';
import type { NodeName } from '../../shared/routing/names.js';
import { registryKey, type RegistryEntry } from '../../shared/routing/registry-entry.js';
import {
  documentsSource,
  type InventorySource,
  type SourceChange,
  type SourceEntry,
  type SourceOutcome,
} from './inventory-source.js';
import { InventoryLog, type WholeInventory } from './inventory-log.js';
import { InventoryLook } from './inventory-look.js';
import { writtenEntry, type WrittenChange, type WrittenEntry } from './inventory-records.js';
import type { InventoryTurn } from './inventory-turn.js';
import { MergedRegistry, type AppliedChange, type HeldEntry } from './merged-registry.js';
import { registryEntries } from './registry-entries.js';
import { registryKeyOf, type StoredResource } from './stored-resource.js';

type InventoryFile = Pick<InventoryLog, 'append' | 'replace' | 'close'>;
export type WrapFile = (file: InventoryLog) => InventoryFile;

/** The verdict on a change that was applied in memory: whether to keep it, and what to return to the caller. */
export type ChangeVerdict<T> = {
  readonly isKept: boolean;
  readonly value: T;
  /** Called before a change that is kept is written. If it rejects, the change is undone. */
  readonly begin?: () => Promise<void>;
};

/** The keys that a change on disk touched, for publishing. */
export type InventoryChanged = {
  /** Registry keys. */
  readonly published: ReadonlySet<string>;
  /** Keys of documents. */
  readonly documents: ReadonlySet<string>;
};

type Waiting = {
  readonly source: string;
  readonly change: () => SourceChange;
  readonly judge: (applied: AppliedChange) => ChangeVerdict<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
};
type Kept = { readonly applied: AppliedChange; readonly written: WrittenChange };
type Beginning = () => Promise<void>;

/**
 * The registry of workloads and services. It is separate from the rules and has no revision: sources feed it, it is on disk
 * in `inventory.log`, and each change increments its own sequence. Publishing is done elsewhere ({@link onChange}).
 * Listeners are called only when a change is on disk.
 *
 * Changes that arrive during a write share the next one. Each is applied in memory, checked there, and undone when it is
 * refused or the disk fails, so the cost of a change depends only on what it touches.
 */
export class Inventory {
  readonly #trustDomain: string;
  readonly #merged = new MergedRegistry();
  readonly #turns = new SerialQueue();
  readonly #waiting: Waiting[] = [];
  #file: InventoryFile | undefined;
  /** Starts at 1, because the root of an empty registry has a sequence too. */
  #sequence = 1;
  #revision = 0;
  #isUsable = false;
  /**
   * A revision of the rules is in force whose part the disk did not take. Other changes are refused until it is here: it is
   * older than they are and would overwrite them.
   */
  #isBehindRules = false;
  #sorted: { readonly sequence: number; readonly entries: readonly RegistryEntry[] } | null = null;
  readonly #listeners: ((changed: InventoryChanged) => void)[] = [];
  readonly #looks = new Set<InventoryLook>();

  private constructor({ trustDomain }: { readonly trustDomain: string }) {
    this.#trustDomain = trustDomain;
  }

  /** Opens or creates `inventory.log` at `path`. Errors: `JOURNAL_READ`, `JOURNAL_WRITE`, `STORE_INVALID`. */
  static async open(init: {
    readonly path: string;
    readonly log: Log;
    readonly nowMs: () => number;
    readonly trustDomain: string;
    /** For tests: wraps the file. */
    readonly wrapFile?: WrapFile;
  }): Promise<Inventory> {
    const { path, log, nowMs, trustDomain, wrapFile = (file) => file } = init;
    const inventory = new Inventory({ trustDomain });
    const { file, content } = await InventoryLog.open({ path, log, nowMs, whole: () => inventory.#whole() });
    inventory.#file = wrapFile(file);
    if (content === undefined) return inventory;
    inventory.#merged.withdraw(new Set(content.withdrawn), 0);
    for (const written of content.entries) inventory.#load([written], [], written.source, written.sequence);
    inventory.#settleSequences(content.sequences);
    for (const { source, upserts, removals, sequence, withdrawn } of content.changes) {
      inventory.#load(upserts, removals, source, sequence);
      if (withdrawn !== undefined) inventory.#merged.withdraw(new Set(withdrawn), sequence);
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

  /** The newest revision of the rules whose inventory part was applied. */
  get revision(): number {
    return this.#revision;
  }

  /** False from a start without a usable file until `adopt` restores the content. Changes wait until then. */
  get isUsable(): boolean {
    return this.#isUsable;
  }

  /** Lookups whose cost does not depend on the number of entries. */
  get registry(): Pick<
    MergedRegistry,
    'published' | 'registered' | 'conflicts' | 'ownerOf' | 'claimantsOf' | 'hasIdentity'
  > {
    return this.#merged;
  }

  /** The entries of the documents source, by registry key. */
  get documents(): ReadonlyMap<string, HeldEntry> {
    return this.#merged.heldBy(documentsSource);
  }

  /** All entries in the order of their keys. There may be tens of thousands, so do not read this for every change. */
  get entries(): readonly RegistryEntry[] {
    if (this.#sorted?.sequence === this.#sequence) return this.#sorted.entries;
    const sorted = [...this.#merged.published].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, { entry }]) => entry);
    this.#sorted = { sequence: this.#sequence, entries: sorted };
    return sorted;
  }

  /** Calls the listener whenever a change is on disk, for the life of the inventory. */
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
      replaceAll: (entries, kept = new Set()) => {
        const upserts = [...entries];
        return change(() => {
          const wanted = new Set(upserts.map(({ entry }) => registryKey(entry)).concat([...kept]));
          return { upserts, removals: [...this.#merged.heldBy(name).keys()].filter((key) => !wanted.has(key)) };
        });
      },
    };
  }

  /**
   * Makes a change after all earlier ones, once the inventory {@link isUsable}. `change` returns what to change. `judge`
   * checks the registry with the change applied, immediately afterwards. Resolves when the change is on disk; a change that
   * is not kept is undone. Errors: those of the two callbacks, and `JOURNAL_WRITE` (nothing was changed).
   */
  change<T>(
    source: string,
    change: () => SourceChange,
    judge: (applied: AppliedChange) => ChangeVerdict<T>,
  ): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push({ source, change, judge, resolve: (value) => resolve(value as T), reject });
      // Before the content is restored, the registry would consist of this source alone.
      if (this.#isUsable && this.#waiting.length === 1) void this.#turns.run(() => this.#runWaiting());
    });
  }

  /**
   * Publishes the workloads of these nodes without their identities, and all others with theirs. Resolves when that is on
   * disk, or when there is no file yet: what restores it writes this too. Errors: `JOURNAL_WRITE` (nothing was changed).
   */
  withdrawIdentities(nodes: () => readonly NodeName[]): Promise<void> {
    return this.#turns.run(async () => {
      const wanted = new Set(nodes());
      const before = this.#merged.withdrawn;
      if (wanted.size === before.size && [...wanted].every((node) => before.has(node))) return;
      if (!this.#isUsable) {
        this.#merged.withdraw(wanted, this.#sequence);
        return;
      }
      if (this.#isBehindRules) throw behindRules();
      const sequence = this.#sequence + 1;
      const applied = this.#merged.withdraw(wanted, sequence);
      this.#sequence = sequence;
      const written = { sequence, source: documentsSource, upserts: [], removals: [], withdrawn: [...wanted] };
      await this.#write([{ applied, written }]);
    });
  }

  /** Notes what changes in memory from now on, for work that keeps no change away. The caller disposes of it. */
  look(): InventoryLook {
    const look: InventoryLook = new InventoryLook({ stop: () => this.#looks.delete(look) });
    this.#looks.add(look);
    return look;
  }

  /** Runs `work` while no other change is made. */
  exclusively<T>(work: (turn: InventoryTurn) => Promise<T>): Promise<T> {
    return this.#turns.run(() =>
      work({
        preview: (change, inspect) => {
          const applied = this.#merged.apply(documentsSource, change, this.#sequence + 1);
          this.#sorted = null;
          try {
            return inspect(applied);
          } finally {
            applied.undo();
            this.#sorted = null;
          }
        },
        commit: (change, revision) => this.#commit(change, revision),
        adopt: (documents, position) => this.#adopt(documents, position),
        renumber: (sequence) => this.#renumber(sequence),
      }),
    );
  }

  /** Calls `read` when everything in the inventory is on disk. */
  readDurable<T>(read: () => T): Promise<T> {
    return this.#turns.run(() => Promise.resolve(read()));
  }

  /** Makes the entry of a stored document. Throws CulvertError `STORE_INVALID` when the document is refused. */
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

  async #commit(change: SourceChange, revision: number): Promise<void> {
    this.#isBehindRules = true;
    await this.#write([this.#apply(documentsSource, change, revision)]);
    this.#isBehindRules = false;
  }

  async #runWaiting(): Promise<void> {
    if (this.#isBehindRules) {
      for (const { reject } of this.#waiting.splice(0)) reject(behindRules());
      return;
    }
    const kept: Kept[] = [];
    const answers: (() => void)[] = [];
    const failures: ((error: unknown) => void)[] = [];
    const beginnings: Beginning[] = [];
    for (const { source, change, judge, resolve, reject } of this.#waiting.splice(0)) {
      const sequence = this.#sequence;
      let made: Kept | null = null;
      try {
        made = this.#apply(source, change());
        const { isKept, value, begin } = judge(made.applied);
        if (isKept && made.applied.held.size > 0) {
          kept.push(made);
          if (begin !== undefined) beginnings.push(begin);
        } else this.#undo(made, sequence);
        // A change may be a no-op because of an earlier one that is not on disk yet, so it waits for the write too.
        answers.push(() => resolve(value));
        failures.push(reject);
      } catch (error) {
        if (made !== null) this.#undo(made, sequence);
        reject(error);
      }
    }
    try {
      await this.#write(kept, beginnings);
      for (const answer of answers) answer();
    } catch (error) {
      for (const fail of failures) fail(error);
    }
  }

  /** Applies a change in memory. A change that changes nothing does not increment the sequence. */
  #apply(source: string, change: SourceChange, revision?: number): Kept {
    const sequence = this.#sequence + 1;
    const applied = this.#merged.apply(source, change, sequence);
    for (const look of this.#looks) look.note(source, applied);
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

  #undo({ applied }: Pick<Kept, 'applied'>, sequence: number): void {
    applied.undo();
    for (const look of this.#looks) look.note(null, applied);
    this.#sequence = sequence;
    if ((this.#sorted?.sequence ?? 0) > sequence) this.#sorted = null;
  }

  /** Writes the changes to disk. Undoes all of them when that fails. */
  async #write(kept: readonly Kept[], beginnings: readonly Beginning[] = []): Promise<void> {
    if (kept.length === 0) return;
    const before = (kept[0]?.written.sequence ?? 1) - 1;
    const revisionBefore = this.#revision;
    for (const { written } of kept) this.#revision = Math.max(this.#revision, written.revision ?? 0);
    try {
      await Promise.all(beginnings.map((begin) => begin()));
      await this.#log.append(kept.map(({ written }) => written));
    } catch (error) {
      for (const one of kept.toReversed()) this.#undo(one, before);
      this.#revision = revisionBefore;
      throw error;
    }
    this.#notify(kept.map(({ applied }) => applied));
  }

  #notify(applied: readonly AppliedChange[]): void {
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

  /** Replaces the entries of the documents source. The sequence never decreases. */
  async #adopt(
    documents: readonly StoredResource[],
    position: { readonly sequence: number; readonly revision: number },
  ): Promise<void> {
    const entries = documents.map((document) => this.entryOf(document));
    const wanted = new Set(documents.map(({ key }) => registryKeyOf(key)));
    const removals = [...this.documents.keys()].filter((key) => !wanted.has(key));
    const before = { sequence: this.#sequence, revision: this.#revision };
    const newest = documents.reduce((highest, { revision }) => Math.max(highest, revision), position.sequence);
    const { withdrawn } = this.#merged;
    const applied: AppliedChange[] = [this.#merged.withdraw(new Set(), this.#sequence)];
    applied.push(this.#merged.apply(documentsSource, { upserts: [], removals }, Math.max(this.#sequence, newest)));
    for (const entry of entries) {
      const sequence = entry.document?.revision ?? newest;
      applied.push(this.#merged.apply(documentsSource, { upserts: [entry], removals: [] }, sequence));
    }
    this.#sequence = Math.max(this.#sequence, newest);
    if (withdrawn.size > 0) applied.push(this.#merged.withdraw(withdrawn, ++this.#sequence));
    this.#revision = position.revision;
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
    this.#isBehindRules = false;
    this.#notify(applied);
    if (this.#waiting.length > 0) void this.#turns.run(() => this.#runWaiting());
  }

  async #renumber(sequence: number): Promise<void> {
    const before = this.#sequence;
    const applied = this.#merged.renumber(sequence);
    this.#sequence = sequence;
    try {
      await this.#log.replace();
    } catch (error) {
      this.#undo({ applied }, before);
      throw error;
    }
    this.#notify([applied]);
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

  /** For each published entry, the sequence of the change that brought it from its source. */
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
    const withdrawn = [...this.#merged.withdrawn];
    return { sequence: this.#sequence, revision: this.#revision, held, sequences, withdrawn };
  }
}

function behindRules(): CulvertError {
  return new CulvertError({
    code: 'JOURNAL_WRITE',
    message: 'the workloads and services of the last revision of the rules are not in inventory.log yet',
    hint: 'apply again; if it fails again, look at the free space and the health of the disk',
  });
}
