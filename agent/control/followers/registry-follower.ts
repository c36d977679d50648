import type { BucketChange } from '../../../shared/bus/bucket.js';
import { describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { isPageKey } from '../../../shared/wire/registry-leaf.js';
import { UnreadableEntryError, type UnreadableWorkload } from '../../../shared/wire/unreadable-entry.js';
import { registryRootKey, type RegistryRoot } from '../../../shared/wire/registry-root.js';
import type { IpAddress } from '../../../shared/address.js';
import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';
import type { RegistryMessage } from '../../dataplane/messages.js';
import type { ManifestEntries, ReleasedEntry } from './manifest-entries.js';
import { RegistryManifest, type DroppedPage } from './registry-manifest.js';
import { assertNotOlder, RegistryRefusals } from './registry-refusals.js';
import type { RegistrySource, StoredRegistry } from '../state/registry-file.js';
import { keyOfStored, UnreadableEntries } from './unreadable-entries.js';

export type OpenedEntry = { readonly entry: RegistryEntry; readonly sequence: number };
export type HeldEntry = OpenedEntry & { readonly sealed: Uint8Array };

/** The controller writes entries before pages, and pages before the root. What is missing for longer was removed. */
const missingAlarmMs = 5000;
/** When no entry arrives for this time, the entries that wait for their page are verified by their own signatures. */
const waitingMs = 500;
const checkedAtOnce = 100;

/**
 * The registry that this agent trusts: signed entries, the pages that list them, and a signed root with the digest of each
 * page. A deletion in NATS is not signed and is ignored. Otherwise anyone who can write to NATS could take a workload out
 * of the mesh, and its traffic would go in the clear. An entry is removed only when its page no longer lists it and the
 * root is at least as new as the entry. The registry is complete when all pages and all listed entries are here, those
 * that cannot be read too. Until it was complete once, workers get no registry and refuse all traffic.
 *
 * The cost of a change depends on the size of the change, not of the registry.
 */
export class RegistryFollower implements RegistrySource {
  readonly #open: (key: string, sealed: Uint8Array) => OpenedEntry;
  readonly #openProven: (key: string, sealed: Uint8Array) => OpenedEntry;
  readonly #log: Log;
  readonly #onChange: (message: RegistryMessage) => void;
  readonly #onStale: () => void;
  readonly #onAlarm: () => void;
  readonly #held = new Map<string, HeldEntry>();
  readonly #manifest: RegistryManifest;
  readonly #unreadable = new UnreadableEntries();
  readonly #refusals = new RegistryRefusals();
  readonly #changed = new Set<string>();
  /** Keys of entries that were added or removed since {@link takeUnsaved}. */
  #unsaved = new Set<string>();
  /** Keys of held entries that no page in force was found to list. */
  readonly #unlisted = new Set<string>();
  /** Pages in force with missing entries. */
  readonly #incomplete = new Set<ManifestEntries>();
  /** The highest sequence held. Read after every change, so it is cached. */
  #highest: number | null | 'unknown' = null;
  #waitingTimer: NodeJS.Timeout | null = null;
  /** Entries that waited for the rest of their page in vain. */
  readonly #unverified: ReleasedEntry[] = [];
  #checking: NodeJS.Immediate | null = null;
  #hasManifestChanged = false;
  #flush: NodeJS.Immediate | null = null;
  #missingTimer: NodeJS.Timeout | null = null;
  #isComplete = false;
  /** The sequence in the last message. */
  #emittedSequence: number | null = null;

  constructor(init: {
    /** Checks the signature, the shape, and that the entry belongs at this key. Throws when one of them is wrong. */
    readonly open: (key: string, sealed: Uint8Array) => OpenedEntry;
    /** The same without the signature, for bytes that the signed root proves. */
    readonly openProven: (key: string, sealed: Uint8Array) => OpenedEntry;
    /** Like `open`, for the root. */
    readonly openRoot: (sealed: Uint8Array) => RegistryRoot;
    readonly log: Log;
    readonly onChange: (message: RegistryMessage) => void;
    /** {@link stored} has changed. */
    readonly onStale: () => void;
    /** An entry was refused (not signed by a pinned key, or older than the one held), or something is missing. */
    readonly onAlarm: () => void;
  }) {
    this.#open = init.open;
    this.#openProven = init.openProven;
    this.#log = init.log;
    this.#onChange = init.onChange;
    this.#onStale = init.onStale;
    this.#onAlarm = init.onAlarm;
    this.#manifest = new RegistryManifest({
      open: init.openRoot,
      sequenceOf: (key) => this.#held.get(key)?.sequence ?? 0,
      onRefused: (key, error) => this.#refuse(key, error),
    });
  }

  /**
   * Restores what {@link stored} returned. Each entry is used only if its signature is valid, or if the root is and proves
   * its bytes. Emits the whole registry; without a root that counts, as of another mesh, nothing is known, and what is
   * refused is no {@link alarm}: the NATS of this mesh need not have it.
   */
  restore({ entries, isComplete }: StoredRegistry): void {
    const stored = new Map(entries.map(({ key, sealed }) => [key, sealed]));
    const root = stored.get(registryRootKey);
    if (root !== undefined) this.#takeRoot(root);
    for (const [key, sealed] of stored) {
      if (isPageKey(key) && !this.#manifest.hasRoot) this.#unsaved.add(key);
      const page = isPageKey(key) && this.#manifest.hasRoot ? this.#manifest.takePage(key, sealed) : null;
      if (page !== null) this.#add(page);
    }
    const proven = new Set<string>();
    for (const page of this.#manifest.entries()) {
      if (page.isProvedBy((key) => stored.get(key))) for (const key of page.keys) proven.add(key);
    }
    for (const [key, sealed] of stored) {
      if (isManifestKey(key) || keyOfStored(key) !== null) continue;
      if (!this.#take(key, sealed, proven.has(key) ? this.#openProven : this.#open)) this.#unsaved.add(key);
    }
    // After those that it may be a newer version of.
    for (const [storedKey, sealed] of stored) {
      const key = keyOfStored(storedKey);
      if (key === null) continue;
      this.#take(key, sealed);
      if (this.#unreadable.sequenceOf(key) === undefined) this.#unreadable.forgetStored(key);
    }
    this.#removeUnlisted();
    this.#changed.clear();
    if (!this.#manifest.hasRoot) this.#refusals.clear();
    this.#isComplete = isComplete && this.#manifest.hasRoot;
    if (this.#isComplete) this.#emitFull();
  }

  /** True once a complete registry was received, now or before a restart. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Number of listed pages and entries that are not here. Entries that are here in an older version count too. */
  get missing(): number {
    let missing = this.#manifest.missingPageCount;
    for (const page of this.#incomplete) missing += page.missing.size;
    return missing;
  }

  /** Number of entries that this agent cannot read. Their addresses are refused; see {@link UnreadableEntries}. */
  get unreadable(): number {
    return this.#unreadable.size;
  }

  /** Those entries among the unreadable that are workloads whose traffic an agent has to capture. */
  get unreadableWorkloads(): readonly UnreadableWorkload[] {
    return [...this.#unreadable.workloads()];
  }

  /** Of what is {@link missing}, what may still arrive: an entry that cannot be read is here. */
  get #awaited(): number {
    if (this.#unreadable.size === 0) return this.missing;
    let awaited = this.#manifest.missingPageCount;
    for (const page of this.#incomplete) {
      for (const key of page.missing) if (this.#unreadable.sequenceOf(key) === undefined) awaited++;
    }
    return awaited;
  }

  /** The sequence of the root in force; null when something is missing. */
  get #completeSequence(): number | null {
    return this.missing === 0 ? this.#manifest.sequence : null;
  }

  /** What is refused now of what NATS holds; null: nothing. */
  get alarm(): string | null {
    return this.#refusals.alarm;
  }

  get entries(): ReadonlyMap<string, HeldEntry> {
    return this.#held;
  }

  counts(): { workloads: number; services: number } {
    const entries = [...this.#held.values()];
    const workloads = entries.filter(({ entry }) => entry.kind === 'workload').length;
    return { workloads, services: entries.length - workloads };
  }

  /** Everything as it was received, with root and pages, for {@link restore}. */
  get stored(): StoredRegistry {
    const entries = [...this.#held].map(([key, { sealed }]) => ({ key, sealed }));
    entries.push(...this.#unreadable.stored(), ...this.#manifest.sealed());
    return { entries, isComplete: this.#isComplete };
  }

  takeUnsaved(): ReadonlyMap<string, Uint8Array | null> {
    const unsaved = new Map<string, Uint8Array | null>();
    for (const key of this.#unsaved) unsaved.set(key, this.#held.get(key)?.sealed ?? null);
    this.#unsaved = new Set();
    for (const changed of [this.#manifest.takeChanged(), this.#unreadable.takeUnsaved()]) {
      for (const [key, sealed] of changed) unsaved.set(key, sealed);
    }
    return unsaved;
  }

  /** The highest sequence held; null when there is no entry. */
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
    this.#refusals.forget(change.key);
    if (change.operation === 'delete') {
      this.#log.debug(
        { key: change.key },
        'a key of the registry is gone from NATS; only a signed root removes an entry',
      );
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

  /** Returns true when something is new. */
  #receive(key: string, sealed: Uint8Array): boolean {
    if (key === registryRootKey) return this.#takeRoot(sealed);
    if (isPageKey(key)) return this.#takePage(key, sealed);
    const page = this.#manifest.entriesFor(key);
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
    for (const page of this.#incomplete) this.#unverified.push(...page.stopWaiting());
    if (this.#checking === null) this.#checkSome();
  }

  /** Verifies a few per turn: thousands of signatures at once would block the control thread for seconds. */
  #checkSome(): void {
    this.#missingTimer?.refresh();
    for (const { key, sealed } of this.#unverified.splice(0, checkedAtOnce)) {
      const page = this.#manifest.entriesFor(key);
      // An entry that arrived in the meantime is newer.
      if (page?.names(key) === true && !page.missing.has(key)) continue;
      if (this.#take(key, sealed)) this.#settleSoon();
    }
    this.#checking = this.#unverified.length === 0 ? null : setImmediate(() => this.#checkSome());
  }

  #settleSoon(): void {
    this.#flush ??= setImmediate(() => {
      this.#flush = null;
      this.#settle();
    });
  }

  #takeRoot(sealed: Uint8Array): boolean {
    try {
      const change = this.#manifest.takeRoot(sealed);
      if (change === null) return false;
      const waiting = change.dropped.flatMap((dropped) => this.#drop(dropped));
      for (const page of change.added) this.#add(page);
      this.#hasManifestChanged = true;
      for (const entry of waiting) this.#receive(entry.key, entry.sealed);
      return true;
    } catch (error) {
      this.#refuse(registryRootKey, error);
      return false;
    }
  }

  #takePage(key: string, sealed: Uint8Array): boolean {
    const page = this.#manifest.takePage(key, sealed);
    if (page === null) {
      this.#watchMissing();
      return false;
    }
    this.#add(page);
    this.#hasManifestChanged = true;
    return true;
  }

  #add(page: ManifestEntries): void {
    if (page.missing.size > 0) this.#incomplete.add(page);
  }

  /** Its entries may no longer be listed by any page. Returns the entries that waited for it. */
  #drop({ entries, successor }: DroppedPage): ReleasedEntry[] {
    this.#incomplete.delete(entries);
    for (const key of entries.keys) if (successor?.names(key) !== true && this.#held.has(key)) this.#unlisted.add(key);
    return entries.stopWaiting();
  }

  /** Returns true when the entry is new. `open` verifies it. */
  #take(key: string, sealed: Uint8Array, open = this.#open): boolean {
    try {
      return this.#takeEntry(key, sealed, open);
    } catch (error) {
      if (error instanceof UnreadableEntryError) return this.#keepUnreadable(key, sealed, error);
      this.#refuse(key, error);
      return false;
    }
  }

  #refuse(key: string, error: unknown): void {
    this.#onAlarm();
    this.#refusals.note(key, describeError(error));
    this.#log.error({ key, problem: describeError(error) }, 'refused a registry entry; the last good one stays');
  }

  /** Returns true when it is new. */
  #keepUnreadable(key: string, sealed: Uint8Array, error: UnreadableEntryError): boolean {
    this.#onAlarm();
    const { claims, sequence } = error;
    this.#log.error(
      { key, addresses: claims.addresses, problem: describeError(error) },
      'cannot read a registry entry of a newer controller: upgrade this agent. The last good one stays, and connections to and from addresses that it does not have are refused',
    );
    return sequence > (this.#held.get(key)?.sequence ?? 0) && this.#unreadable.take(key, sealed, error);
  }

  #takeEntry(key: string, sealed: Uint8Array, open: (key: string, sealed: Uint8Array) => OpenedEntry): boolean {
    const held = this.#held.get(key);
    // Already verified: every new connection to NATS delivers all entries again.
    if (held !== undefined && Buffer.compare(held.sealed, sealed) === 0) return false;
    const opened = open(key, sealed);
    assertNotOlder(opened.sequence, this.#unreadable.sequenceOf(key) ?? held?.sequence);
    this.#unreadable.drop(key);
    this.#held.set(key, { ...opened, sealed });
    if (this.#highest !== 'unknown') this.#highest = Math.max(this.#highest ?? 0, opened.sequence);
    this.#changed.add(key);
    this.#unsaved.add(key);
    const page = this.#manifest.entriesFor(key);
    if (page === undefined || !page.names(key)) {
      this.#unlisted.add(key);
      return true;
    }
    page.onHeld(key, opened.sequence);
    if (page.missing.size === 0) this.#incomplete.delete(page);
    return true;
  }

  /** Sends one message for all changes of one turn of the event loop. */
  #settle(): void {
    const removals = this.#removeUnlisted();
    const upserts = [...this.#changed].flatMap((key) => this.#held.get(key)?.entry ?? []);
    this.#changed.clear();
    this.#watchMissing();
    if (this.#isComplete) {
      const sequence = this.#completeSequence;
      const { hasChanged } = this.#unreadable;
      if (
        upserts.length + removals.length > 0 ||
        hasChanged ||
        (sequence !== null && sequence !== this.#emittedSequence)
      ) {
        this.#emittedSequence = sequence;
        this.#onChange({
          type: 'registry',
          isFull: false,
          upserts,
          removals,
          ...(hasChanged ? { unreadable: this.#unreadableAddresses() } : {}),
          ...(sequence === null ? {} : { sequence }),
        });
      }
    } else if (this.#manifest.hasRoot && this.#awaited === 0) {
      this.#isComplete = true;
      this.#emitFull();
    }
    this.#onStale();
  }

  /** Without a new root or page, only an entry that has just arrived can be one to remove. */
  #removeUnlisted(): string[] {
    const sequence = this.#manifest.sequence ?? 0;
    if (this.#hasManifestChanged || this.#unreadable.hasChanged) {
      this.#unreadable.dropWhere((key, at) => at <= sequence && this.#manifest.entriesFor(key)?.names(key) === false);
    }
    const candidates = this.#hasManifestChanged ? this.#unlisted : this.#changed;
    this.#hasManifestChanged = false;
    const gone: string[] = [];
    for (const key of candidates) {
      const page = this.#manifest.entriesFor(key);
      // The page has not arrived yet.
      if (page === undefined) continue;
      if (page.names(key)) this.#unlisted.delete(key);
      else if ((this.#held.get(key)?.sequence ?? Infinity) <= sequence) gone.push(key);
    }
    for (const key of gone) {
      this.#unlisted.delete(key);
      if (this.#held.get(key)?.sequence === this.#highest) this.#highest = 'unknown';
      this.#held.delete(key);
      this.#unsaved.add(key);
    }
    return gone;
  }

  #unreadableAddresses(): ReadonlyMap<IpAddress, string> {
    return this.#unreadable.takeAddresses((key) => {
      const entry = this.#held.get(key)?.entry;
      if (entry === undefined) return [];
      return entry.kind === 'workload' ? entry.addresses : entry.vips;
    });
  }

  #watchMissing(): void {
    if (this.missing > 0 || this.#manifest.strayPage !== undefined) {
      this.#missingTimer ??= setTimeout(() => this.#reportMissing(), missingAlarmMs);
    } else if (this.#missingTimer !== null) {
      clearTimeout(this.#missingTimer);
      this.#missingTimer = null;
    }
  }

  #reportMissing(): void {
    this.#onAlarm();
    const pages = this.#manifest.missingPages();
    const [incomplete] = this.#incomplete;
    const [first = this.#manifest.strayPage] = [...pages, ...(incomplete?.missing ?? [])];
    this.#log.error(
      { missing: this.missing, pages: pages.length, first },
      'the registry lacks pages or entries that its root lists, or has a page that its root does not list: the controller is restoring the bucket, or another client writes to it',
    );
  }

  #emitFull(): void {
    const upserts = [...this.#held.values()].map((held) => held.entry);
    const sequence = this.#completeSequence;
    this.#emittedSequence = sequence;
    const part = sequence === null ? {} : { sequence };
    const unreadable = this.#unreadableAddresses();
    this.#onChange({ type: 'registry', isFull: true, upserts, removals: [], unreadable, ...part });
  }
}

function isManifestKey(key: string): boolean {
  return key === registryRootKey || isPageKey(key);
}
