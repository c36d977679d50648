import type { BucketChange } from '../../shared/bus/bucket.js';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { provenKeys } from '../../shared/wire/registry-digests.js';
import { registryListKey, type RegistryList } from '../../shared/wire/registry-list.js';
import type { RegistryEntry } from '../../shared/wire/registry.js';
import type { RegistryMessage } from '../dataplane/messages.js';
import type { StoredRegistry } from './registry-file.js';
import { WaitingGroups, type ReleasedEntry } from './waiting-groups.js';

export type OpenedEntry = { readonly entry: RegistryEntry; readonly sequence: number };
export type HeldEntry = OpenedEntry & { readonly sealed: Uint8Array };

/** The controller writes entries before the list that names them: what is missing for longer was taken away. */
const missingAlarmMs = 5000;
/** So many missing entries are proved in groups; fewer are sooner checked by their signatures. */
const minGrouped = 64;
/** Groups that get nothing for so long are checked by signatures. */
const waitingMs = 500;
const checkedAtOnce = 100;

/**
 * The registry as this agent believes it: signed entries, and a signed list of them. A deletion in NATS is nobody's word
 * and counts for nothing, so nobody can take a workload out of the mesh, whose bytes would then go in the clear: an
 * entry goes when a list that is as new as the entry leaves it out. A registry is whole when all that the list names is
 * there; until it was once, nothing is let through.
 */
export class RegistryFollower {
  readonly #open: (key: string, sealed: Uint8Array) => OpenedEntry;
  readonly #openProven: (key: string, sealed: Uint8Array) => OpenedEntry;
  readonly #openList: (sealed: Uint8Array) => RegistryList;
  readonly #log: Log;
  readonly #onChange: (message: RegistryMessage) => void;
  readonly #onStale: () => void;
  readonly #onAlarm: () => void;
  readonly #held = new Map<string, HeldEntry>();
  #list: (RegistryList & { readonly sealed: Uint8Array }) | null = null;
  readonly #changed = new Set<string>();
  /** Keys that the list names and that are not here, or only in an older version. */
  readonly #missing = new Set<string>();
  #waiting: WaitingGroups | null = null;
  #waitingTimer: NodeJS.Timeout | null = null;
  /** What waited for its group in vain. */
  readonly #unproved: ReleasedEntry[] = [];
  #checking: NodeJS.Immediate | null = null;
  #isListNew = false;
  #flush: NodeJS.Immediate | null = null;
  #missingTimer: NodeJS.Timeout | null = null;
  #isComplete = false;

  constructor(init: {
    /** Checks signature, shape and that the entry belongs at this key; throws when they are not right. */
    readonly open: (key: string, sealed: Uint8Array) => OpenedEntry;
    /** The same without the signature, of bytes that the signed list proves. */
    readonly openProven: (key: string, sealed: Uint8Array) => OpenedEntry;
    /** As `open`, for the list. */
    readonly openList: (sealed: Uint8Array) => RegistryList;
    readonly log: Log;
    readonly onChange: (message: RegistryMessage) => void;
    /** {@link stored} is another than before. */
    readonly onStale: () => void;
    /** Something was refused: not signed by a pinned key, or older than what is held. Or something is missing. */
    readonly onAlarm: () => void;
  }) {
    this.#open = init.open;
    this.#openProven = init.openProven;
    this.#openList = init.openList;
    this.#log = init.log;
    this.#onChange = init.onChange;
    this.#onStale = init.onStale;
    this.#onAlarm = init.onAlarm;
  }

  /**
   * Takes over what {@link stored} gave, each only if its signature still holds or the list, whose signature holds,
   * proves its bytes. Emits the whole.
   */
  restore({ entries, isComplete }: StoredRegistry): void {
    const stored = new Map(entries.map(({ key, sealed }) => [key, sealed]));
    const list = stored.get(registryListKey);
    if (list !== undefined) this.#take(registryListKey, list);
    stored.delete(registryListKey);
    const proven = this.#provenBy(this.#list, stored);
    for (const [key, sealed] of stored) this.#take(key, sealed, proven.has(key) ? this.#openProven : this.#open);
    this.#removeUnlisted();
    this.#changed.clear();
    this.#isComplete = isComplete;
    if (isComplete) this.#emitFull();
  }

  /** True once a whole registry was received, in this life or before. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Entries that the list names and that are not here, or only in an older version. */
  get missing(): number {
    return this.#missing.size;
  }

  get entries(): ReadonlyMap<string, HeldEntry> {
    return this.#held;
  }

  /** Everything as it came, the list included, for {@link restore}. */
  get stored(): StoredRegistry {
    const entries = [...this.#held].map(([key, { sealed }]) => ({ key, sealed }));
    if (this.#list !== null) entries.push({ key: registryListKey, sealed: this.#list.sealed });
    return { entries, isComplete: this.#isComplete };
  }

  /** The highest sequence held; null without any entry. */
  get sequence(): number | null {
    let highest: number | null = null;
    for (const { sequence } of this.#held.values()) highest = Math.max(highest ?? 0, sequence);
    return highest;
  }

  /** For the watch of the bucket. */
  onEntry(change: BucketChange): void {
    if (change.operation === 'delete') {
      this.#log.debug({ key: change.key }, 'a key of the registry is gone from NATS; only a signed list removes it');
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
    if (key === registryListKey) {
      const before = this.#waiting;
      if (!this.#take(key, sealed)) return false;
      this.#waiting = this.#newWaiting();
      for (const entry of before?.drain() ?? []) this.#receive(entry.key, entry.sealed);
      return true;
    }
    if (this.#waiting === null || !this.#missing.has(key)) return this.#take(key, sealed);
    this.#waitingTimer?.refresh();
    this.#waitingTimer ??= setTimeout(() => this.#stopWaiting(), waitingMs);
    this.#missingTimer?.refresh();
    let isNew = false;
    for (const entry of this.#waiting.offer(key, sealed)) {
      if (this.#take(entry.key, entry.sealed, entry.isProven ? this.#openProven : this.#open)) isNew = true;
    }
    return isNew;
  }

  #newWaiting(): WaitingGroups | null {
    const list = this.#list;
    if (list === null || list.digests.length === 0 || this.#missing.size < minGrouped) return null;
    return new WaitingGroups({ list, missing: this.#missing, held: (key) => this.#held.get(key)?.sealed });
  }

  #stopWaiting(): void {
    this.#waitingTimer = null;
    for (const entry of this.#waiting?.drain() ?? []) this.#unproved.push(entry);
    this.#waiting = null;
    if (this.#checking === null) this.#checkSome();
  }

  /** A few in each turn: thousands of signatures at once would hold up the rest of the control thread for seconds. */
  #checkSome(): void {
    this.#missingTimer?.refresh();
    for (const { key, sealed } of this.#unproved.splice(0, checkedAtOnce)) {
      // What has come meanwhile is newer.
      if (this.#missing.has(key) && this.#take(key, sealed)) this.#settleSoon();
    }
    this.#checking = this.#unproved.length === 0 ? null : setImmediate(() => this.#checkSome());
  }

  #settleSoon(): void {
    this.#flush ??= setImmediate(() => {
      this.#flush = null;
      this.#settle();
    });
  }

  #provenBy(list: RegistryList | null, sealed: ReadonlyMap<string, Uint8Array>): ReadonlySet<string> {
    if (list === null) return new Set();
    return provenKeys({ keys: list.entries.keys(), digests: list.digests, sealed });
  }

  /** True when it is new. `open`: what checks an entry. */
  #take(key: string, sealed: Uint8Array, open = this.#open): boolean {
    try {
      return key === registryListKey ? this.#takeList(sealed) : this.#takeEntry(key, sealed, open);
    } catch (error) {
      this.#onAlarm();
      this.#log.error({ key, problem: describeError(error) }, 'registry entry refused; the last good one stays');
      return false;
    }
  }

  #takeEntry(key: string, sealed: Uint8Array, open: (key: string, sealed: Uint8Array) => OpenedEntry): boolean {
    const held = this.#held.get(key);
    // These bytes were checked when they came first: every new connection to NATS brings them again.
    if (held !== undefined && Buffer.compare(held.sealed, sealed) === 0) return false;
    const opened = open(key, sealed);
    assertNotOlder(opened.sequence, held?.sequence);
    this.#held.set(key, { ...opened, sealed });
    this.#changed.add(key);
    if (opened.sequence >= (this.#list?.entries.get(key) ?? 0)) this.#missing.delete(key);
    return true;
  }

  #takeList(sealed: Uint8Array): boolean {
    if (this.#list !== null && Buffer.compare(this.#list.sealed, sealed) === 0) return false;
    const list = this.#openList(sealed);
    assertNotOlder(list.sequence, this.#list?.sequence);
    this.#list = { ...list, sealed };
    this.#isListNew = true;
    this.#missing.clear();
    for (const [key, sequence] of list.entries) {
      if ((this.#held.get(key)?.sequence ?? 0) < sequence) this.#missing.add(key);
    }
    return true;
  }

  /** After the changes of one turn of the event loop: one message for all of them. */
  #settle(): void {
    const removals = this.#removeUnlisted();
    const upserts = [...this.#changed].flatMap((key) => this.#held.get(key)?.entry ?? []);
    this.#changed.clear();
    this.#watchMissing();
    if (this.#isComplete) {
      if (upserts.length + removals.length > 0) {
        this.#onChange({ type: 'registry', isFull: false, upserts, removals });
      }
    } else if (this.#list !== null && this.#missing.size === 0) {
      this.#isComplete = true;
      this.#emitFull();
    }
    this.#onStale();
  }

  /** Looks at what changed only, because thousands of entries come in many turns. */
  #removeUnlisted(): string[] {
    const list = this.#list;
    if (list === null) return [];
    const candidates = this.#isListNew ? this.#held.keys() : this.#changed;
    this.#isListNew = false;
    const gone = [...candidates].filter(
      (key) => !list.entries.has(key) && (this.#held.get(key)?.sequence ?? Infinity) <= list.sequence,
    );
    return gone.filter((key) => this.#held.delete(key));
  }

  #watchMissing(): void {
    if (this.#missing.size > 0) {
      this.#missingTimer ??= setTimeout(() => this.#reportMissing(), missingAlarmMs);
    } else if (this.#missingTimer !== null) {
      clearTimeout(this.#missingTimer);
      this.#missingTimer = null;
    }
  }

  #reportMissing(): void {
    this.#onAlarm();
    const [first] = this.#missing;
    this.#log.error(
      { missing: this.#missing.size, first },
      'the registry lacks entries that its list names: somebody else writes into its bucket, or the controller is restoring it',
    );
  }

  #emitFull(): void {
    const upserts = [...this.#held.values()].map((held) => held.entry);
    this.#onChange({ type: 'registry', isFull: true, upserts, removals: [] });
  }
}

function assertNotOlder(sequence: number, held: number | undefined): void {
  if (held === undefined || sequence >= held) return;
  throw new Error(`its sequence ${sequence} is older than ${held}, which is held`);
}
