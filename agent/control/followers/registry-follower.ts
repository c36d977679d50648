import type { BucketChange } from '../../../shared/bus/bucket.js';
import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { isPageKey } from '../../../shared/wire/registry-leaf.js';
import { registryRootKey, type RegistryRoot } from '../../../shared/wire/registry-root.js';
import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';
import type { RegistryMessage } from '../../dataplane/messages.js';
import type { ManifestEntries, ReleasedEntry } from './manifest-entries.js';
import { RegistryManifest } from './registry-manifest.js';
import type { RegistrySource, StoredRegistry } from '../state/registry-file.js';

export type OpenedEntry = { readonly entry: RegistryEntry; readonly sequence: number };
export type HeldEntry = OpenedEntry & { readonly sealed: Uint8Array };

/** The controller writes entries before pages and pages before the root: what is missing for longer was taken away. */
const missingAlarmMs = 5000;
/** Groups that get nothing for so long are checked by signatures. */
const waitingMs = 500;
const checkedAtOnce = 100;

/**
 * The registry as this agent believes it: signed entries, and pages that list them, which a signed root proves. A deletion
 * in NATS is nobody's word and counts for nothing, so nobody can take a workload out of the mesh, whose bytes would then
 * go in the clear: an entry goes when a page is in force that leaves it out, by a root that is as new as the entry. A
 * registry is whole when all pages and all that they name are there; until it was once, nothing is let through.
 *
 * A change costs what changed: neither all entries nor all pages are looked at.
 */
export class RegistryFollower implements RegistrySource {
  readonly #open: (key: string, sealed: Uint8Array) => OpenedEntry;
  readonly #openProven: (key: string, sealed: Uint8Array) => OpenedEntry;
  readonly #log: Log;
  readonly #onChange: (message: RegistryMessage) => void;
  readonly #onStale: () => void;
  readonly #onAlarm: () => void;
  readonly #held = new Map<string, HeldEntry>();
  readonly #list: RegistryManifest;
  readonly #changed = new Set<string>();
  /** Entries that came or went since {@link takeUnsaved}. */
  #unsaved = new Set<string>();
  /** Keys that are held and that no page in force names, as far as was looked. */
  readonly #unsettled = new Set<string>();
  /** Pages in force that name what is missing. */
  readonly #lacking = new Set<ManifestEntries>();
  /** Of the sequences held; asked for with every change, so it is not looked for each time. */
  #highest: number | null | 'unknown' = null;
  #waitingTimer: NodeJS.Timeout | null = null;
  /** What waited for its group in vain. */
  readonly #unproved: ReleasedEntry[] = [];
  #checking: NodeJS.Immediate | null = null;
  #isListNew = false;
  #flush: NodeJS.Immediate | null = null;
  #missingTimer: NodeJS.Timeout | null = null;
  #isComplete = false;
  /** Of the last message. */
  #emittedSequence: number | null = null;

  constructor(init: {
    /** Checks signature, shape and that the entry belongs at this key; throws when they are not right. */
    readonly open: (key: string, sealed: Uint8Array) => OpenedEntry;
    /** The same without the signature, of bytes that the signed root proves. */
    readonly openProven: (key: string, sealed: Uint8Array) => OpenedEntry;
    /** As `open`, for the root. */
    readonly openRoot: (sealed: Uint8Array) => RegistryRoot;
    readonly log: Log;
    readonly onChange: (message: RegistryMessage) => void;
    /** {@link stored} is another than before. */
    readonly onStale: () => void;
    /** Something was refused: not signed by a pinned key, or older than what is held. Or something is missing. */
    readonly onAlarm: () => void;
  }) {
    this.#open = init.open;
    this.#openProven = init.openProven;
    this.#log = init.log;
    this.#onChange = init.onChange;
    this.#onStale = init.onStale;
    this.#onAlarm = init.onAlarm;
    this.#list = new RegistryManifest({
      open: init.openRoot,
      sequenceOf: (key) => this.#held.get(key)?.sequence ?? 0,
      onRefused: (key, error) => this.#refuse(key, error),
    });
  }

  /**
   * Takes over what {@link stored} gave, each only if its signature still holds or the root, whose signature holds,
   * proves its bytes. Emits the whole.
   */
  restore({ entries, isComplete }: StoredRegistry): void {
    const stored = new Map(entries.map(({ key, sealed }) => [key, sealed]));
    const root = stored.get(registryRootKey);
    if (root !== undefined) this.#takeRoot(root);
    for (const [key, sealed] of stored) {
      const page = isPageKey(key) ? this.#list.takePage(key, sealed) : null;
      if (page !== null) this.#add(page);
    }
    const proven = new Set<string>();
    for (const page of this.#list.entries()) {
      if (page.isProvedBy((key) => stored.get(key))) for (const key of page.keys) proven.add(key);
    }
    for (const [key, sealed] of stored) {
      if (!isListKey(key)) this.#take(key, sealed, proven.has(key) ? this.#openProven : this.#open);
    }
    this.#removeUnlisted();
    this.#changed.clear();
    this.#isComplete = isComplete;
    if (isComplete) this.#emitFull();
  }

  /** True once a whole registry was received, in this life or before. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Pages that the root names and entries that pages name, that are not here, or entries only in an older version. */
  get missing(): number {
    let missing = this.#list.missingPageCount;
    for (const page of this.#lacking) missing += page.missing.size;
    return missing;
  }

  /** Of the root in force when all that it names is here; null: something is missing. */
  get #wholeSequence(): number | null {
    return this.missing === 0 ? this.#list.sequence : null;
  }

  get entries(): ReadonlyMap<string, HeldEntry> {
    return this.#held;
  }

  /** Everything as it came, root and pages included, for {@link restore}. */
  get stored(): StoredRegistry {
    const entries = [...this.#held].map(([key, { sealed }]) => ({ key, sealed }));
    entries.push(...this.#list.sealed());
    return { entries, isComplete: this.#isComplete };
  }

  takeUnsaved(): ReadonlyMap<string, Uint8Array | null> {
    const unsaved = new Map<string, Uint8Array | null>(this.#list.takeChanged());
    for (const key of this.#unsaved) unsaved.set(key, this.#held.get(key)?.sealed ?? null);
    this.#unsaved = new Set();
    return unsaved;
  }

  /** The highest sequence held; null without any entry. */
  get sequence(): number | null {
    if (this.#highest === 'unknown') {
      let highest: number | null = null;
      for (const { sequence } of this.#held.values()) highest = Math.max(highest ?? 0, sequence);
      this.#highest = highest;
    }
    return this.#highest;
  }

  /** For the watch of the bucket. */
  onEntry(change: BucketChange): void {
    if (change.operation === 'delete') {
      this.#log.debug({ key: change.key }, 'a key of the registry is gone from NATS; only a signed root removes it');
      return;
    }
    if (this.#receive(change.key, change.value)) this.#settleSoon();
  }

  close(): void {
    if (this.#waitingTimer !== null) clearTimeout(this.#waitingTimer);
    if (this.#checking !== null) clearImmediate(this.#checking);
    if (this.#missingTimer !== null) clearTimeout(this.#missingTimer);
    if (this.#flush !== null) clearImmediate(this.#flush);
  }

  /** True when something is new. */
  #receive(key: string, sealed: Uint8Array): boolean {
    if (key === registryRootKey) return this.#takeRoot(sealed);
    if (isPageKey(key)) return this.#takePage(key, sealed);
    const page = this.#list.entriesFor(key);
    if (page === undefined || !page.wants(key)) return this.#take(key, sealed);
    this.#waitingTimer?.refresh();
    this.#waitingTimer ??= setTimeout(() => this.#stopWaiting(), waitingMs);
    this.#missingTimer?.refresh();
    let isNew = false;
    for (const entry of page.offer(key, sealed, (at) => this.#held.get(at)?.sealed)) {
      if (this.#take(entry.key, entry.sealed, entry.isProven ? this.#openProven : this.#open)) isNew = true;
    }
    return isNew;
  }

  #stopWaiting(): void {
    this.#waitingTimer = null;
    for (const page of this.#lacking) this.#unproved.push(...page.stopWaiting());
    if (this.#checking === null) this.#checkSome();
  }

  /** A few in each turn: thousands of signatures at once would hold up the rest of the control thread for seconds. */
  #checkSome(): void {
    this.#missingTimer?.refresh();
    for (const { key, sealed } of this.#unproved.splice(0, checkedAtOnce)) {
      const page = this.#list.entriesFor(key);
      // What has come meanwhile is newer.
      if (page?.names(key) === true && !page.missing.has(key)) continue;
      if (this.#take(key, sealed)) this.#settleSoon();
    }
    this.#checking = this.#unproved.length === 0 ? null : setImmediate(() => this.#checkSome());
  }

  #settleSoon(): void {
    this.#flush ??= setImmediate(() => {
      this.#flush = null;
      this.#settle();
    });
  }

  #takeRoot(sealed: Uint8Array): boolean {
    try {
      const change = this.#list.takeRoot(sealed);
      if (change === null) return false;
      const waiting = change.dropped.flatMap((page) => this.#drop(page));
      for (const page of change.added) this.#add(page);
      this.#isListNew = true;
      for (const entry of waiting) this.#receive(entry.key, entry.sealed);
      return true;
    } catch (error) {
      this.#refuse(registryRootKey, error);
      return false;
    }
  }

  #takePage(key: string, sealed: Uint8Array): boolean {
    const page = this.#list.takePage(key, sealed);
    if (page === null) {
      this.#watchMissing();
      return false;
    }
    this.#add(page);
    this.#isListNew = true;
    return true;
  }

  #add(page: ManifestEntries): void {
    if (page.missing.size > 0) this.#lacking.add(page);
  }

  /** What it named may now be named by no page. Returns what waited for its group. */
  #drop(page: ManifestEntries): ReleasedEntry[] {
    this.#lacking.delete(page);
    for (const key of page.keys) if (this.#held.has(key)) this.#unsettled.add(key);
    return page.stopWaiting();
  }

  /** True when it is new. `open`: what checks an entry. */
  #take(key: string, sealed: Uint8Array, open = this.#open): boolean {
    try {
      return this.#takeEntry(key, sealed, open);
    } catch (error) {
      this.#refuse(key, error);
      return false;
    }
  }

  #refuse(key: string, error: unknown): void {
    this.#onAlarm();
    this.#log.error({ key, problem: describeError(error) }, 'registry entry refused; the last good one stays');
  }

  #takeEntry(key: string, sealed: Uint8Array, open: (key: string, sealed: Uint8Array) => OpenedEntry): boolean {
    const held = this.#held.get(key);
    // These bytes were checked when they came first: every new connection to NATS brings them again.
    if (held !== undefined && Buffer.compare(held.sealed, sealed) === 0) return false;
    const opened = open(key, sealed);
    assertNotOlder(opened.sequence, held?.sequence);
    this.#held.set(key, { ...opened, sealed });
    if (this.#highest !== 'unknown') this.#highest = Math.max(this.#highest ?? 0, opened.sequence);
    this.#changed.add(key);
    this.#unsaved.add(key);
    const page = this.#list.entriesFor(key);
    if (page === undefined || !page.names(key)) {
      this.#unsettled.add(key);
      return true;
    }
    page.onHeld(key, opened.sequence);
    if (page.missing.size === 0) this.#lacking.delete(page);
    return true;
  }

  /** After the changes of one turn of the event loop: one message for all of them. */
  #settle(): void {
    const removals = this.#removeUnlisted();
    const upserts = [...this.#changed].flatMap((key) => this.#held.get(key)?.entry ?? []);
    this.#changed.clear();
    this.#watchMissing();
    if (this.#isComplete) {
      const sequence = this.#wholeSequence;
      if (upserts.length + removals.length > 0 || (sequence !== null && sequence !== this.#emittedSequence)) {
        this.#emittedSequence = sequence;
        this.#onChange({
          type: 'registry',
          isFull: false,
          upserts,
          removals,
          ...(sequence === null ? {} : { sequence }),
        });
      }
    } else if (this.#list.hasRoot && this.missing === 0) {
      this.#isComplete = true;
      this.#emitFull();
    }
    this.#onStale();
  }

  /** Without a new root or page, only an entry that came can be one that should not be here. */
  #removeUnlisted(): string[] {
    const sequence = this.#list.sequence ?? 0;
    const candidates = this.#isListNew ? this.#unsettled : this.#changed;
    this.#isListNew = false;
    const gone: string[] = [];
    for (const key of candidates) {
      const page = this.#list.entriesFor(key);
      // Nobody has said yet what there is in its group.
      if (page === undefined) continue;
      if (page.names(key)) this.#unsettled.delete(key);
      else if ((this.#held.get(key)?.sequence ?? Infinity) <= sequence) gone.push(key);
    }
    for (const key of gone) {
      this.#unsettled.delete(key);
      if (this.#held.get(key)?.sequence === this.#highest) this.#highest = 'unknown';
      this.#held.delete(key);
      this.#unsaved.add(key);
    }
    return gone;
  }

  #watchMissing(): void {
    if (this.missing > 0 || this.#list.strayPage !== undefined) {
      this.#missingTimer ??= setTimeout(() => this.#reportMissing(), missingAlarmMs);
    } else if (this.#missingTimer !== null) {
      clearTimeout(this.#missingTimer);
      this.#missingTimer = null;
    }
  }

  #reportMissing(): void {
    this.#onAlarm();
    const pages = this.#list.missingPages();
    const [lacking] = this.#lacking;
    const [first = this.#list.strayPage] = [...pages, ...(lacking?.missing ?? [])];
    this.#log.error(
      { missing: this.missing, pages: pages.length, first },
      'the registry lacks what its root names, or has a page that it does not: somebody else writes into its bucket, or the controller is restoring it',
    );
  }

  #emitFull(): void {
    const upserts = [...this.#held.values()].map((held) => held.entry);
    const sequence = this.#wholeSequence;
    this.#emittedSequence = sequence;
    const whole = sequence === null ? {} : { sequence };
    this.#onChange({ type: 'registry', isFull: true, upserts, removals: [], ...whole });
  }
}

function isListKey(key: string): boolean {
  return key === registryRootKey || isPageKey(key);
}

function assertNotOlder(sequence: number, held: number | undefined): void {
  if (held === undefined || sequence >= held) return;
  throw new Error(`its sequence ${sequence} is older than ${held}, which is held`);
}
