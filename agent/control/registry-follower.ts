import type { BucketChange } from '../../shared/bus/bucket.js';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import type { RegistryEntry } from '../../shared/wire/registry.js';
import type { RegistryMessage } from '../dataplane/messages.js';

export type OpenedEntry = { readonly entry: RegistryEntry; readonly sequence: number };
export type HeldEntry = OpenedEntry & { readonly sealed: Uint8Array };

/** How far a disappearance can be believed: see ControlLink. */
export type StoreTrust = 'none' | 'in order' | 'settled';

const settleRetryMs = 2000;

/**
 * The registry as this agent believes it. Entries are signed; their disappearance is not, and it would take workloads
 * out of the mesh. So a deletion counts only when the rules pointer, read afresh, is in order, and an entry that merely
 * is missing from a list only when it has been for a while: a wiped, rolled-back or half-rebuilt store removes nothing,
 * and the last good registry stays in force.
 */
export class RegistryFollower {
  readonly #open: (key: string, sealed: Uint8Array) => OpenedEntry;
  readonly #trustInStore: () => Promise<StoreTrust>;
  readonly #log: Log;
  readonly #onChange: (message: RegistryMessage) => void;
  readonly #onAlarm: () => void;
  readonly #held = new Map<string, HeldEntry>();
  readonly #listed = new Set<string>();
  /** Keys that seem to be gone; whether somebody deleted them, or they only were not in a list. */
  readonly #removals = new Map<string, { readonly isExplicit: boolean }>();
  readonly #changed = new Set<string>();
  #flush: NodeJS.Immediate | null = null;
  #isComplete = false;
  #isListing = true;
  #removing: Promise<void> | null = null;
  #retry: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(init: {
    /** Checks signature, shape and that the entry belongs at this key; throws when they are not right. */
    readonly open: (key: string, sealed: Uint8Array) => OpenedEntry;
    /** Whether the store, looked at now, still is what it was. */
    readonly trustInStore: () => Promise<StoreTrust>;
    readonly log: Log;
    readonly onChange: (message: RegistryMessage) => void;
    /** An entry was refused: not signed by a pinned key, or older than the one that is held. */
    readonly onAlarm: () => void;
  }) {
    this.#open = init.open;
    this.#trustInStore = init.trustInStore;
    this.#log = init.log;
    this.#onChange = init.onChange;
    this.#onAlarm = init.onAlarm;
  }

  /** Takes over what was on disk, each entry only if its signature still holds. Emits the whole. */
  restore(entries: readonly { readonly key: string; readonly sealed: Uint8Array }[], isComplete: boolean): void {
    for (const { key, sealed } of entries) this.#take(key, sealed);
    this.#changed.clear();
    this.#isComplete = isComplete;
    if (isComplete) this.#emitFull();
  }

  /** Removals that are not believed yet. */
  get pendingRemovals(): number {
    return this.#removals.size;
  }

  /** True once a whole list was received, in this life or before. */
  get isComplete(): boolean {
    return this.#isComplete;
  }

  get entries(): ReadonlyMap<string, HeldEntry> {
    return this.#held;
  }

  /** The highest sequence held; null without any entry. */
  get sequence(): number | null {
    return this.#held.size === 0 ? null : Math.max(...[...this.#held.values()].map((held) => held.sequence));
  }

  /** For the watch of the bucket. */
  onEntry(change: BucketChange): void {
    if (change.operation === 'delete') {
      this.#listed.delete(change.key);
      if (this.#held.has(change.key)) this.#removals.set(change.key, { isExplicit: change.isExplicit });
    } else {
      if (this.#isListing) this.#listed.add(change.key);
      this.#removals.delete(change.key);
      if (this.#take(change.key, change.value)) this.#changed.add(change.key);
    }
    this.#scheduleFlush();
  }

  /** The first list of the watch is complete: what is held and was not in it is gone. */
  onReady(): void {
    this.#isListing = false;
    for (const key of this.#held.keys()) if (!this.#listed.has(key)) this.#removals.set(key, { isExplicit: false });
    this.#listed.clear();
    if (!this.#isComplete) {
      this.#isComplete = true;
      this.#changed.clear();
      this.#emitFull();
    }
    this.#scheduleFlush();
  }

  close(): void {
    this.#isClosed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    if (this.#flush !== null) clearImmediate(this.#flush);
  }

  /** Looks again at removals that could not be believed yet. */
  async settleRemovals(): Promise<void> {
    this.#removing ??= this.#settle().finally(() => (this.#removing = null));
    await this.#removing;
  }

  #take(key: string, sealed: Uint8Array): boolean {
    try {
      const opened = this.#open(key, sealed);
      const held = this.#held.get(key);
      if (held !== undefined && opened.sequence < held.sequence) {
        throw new Error(`its sequence ${opened.sequence} is older than ${held.sequence}, which is held`);
      }
      if (held?.sequence === opened.sequence && Buffer.from(held.sealed).equals(sealed)) return false;
      this.#held.set(key, { ...opened, sealed });
      return true;
    } catch (error) {
      this.#onAlarm();
      this.#log.error({ key, problem: describeError(error) }, 'registry entry refused; the last good one stays');
      return false;
    }
  }

  /** One message for all changes of a turn of the event loop. */
  #scheduleFlush(): void {
    this.#flush ??= setImmediate(() => {
      this.#flush = null;
      if (!this.#isComplete) return;
      const upserts = [...this.#changed].flatMap((key) => this.#held.get(key)?.entry ?? []);
      this.#changed.clear();
      if (upserts.length > 0) this.#onChange({ type: 'registry', isFull: false, upserts, removals: [] });
      if (this.#removals.size > 0 && !this.#isListing) void this.settleRemovals();
    });
  }

  async #settle(): Promise<void> {
    if (this.#removals.size === 0 || this.#isClosed) return;
    const trust = await this.#trustInStore();
    const believed = [...this.#removals].filter(
      ([, { isExplicit }]) => trust === 'settled' || (trust === 'in order' && isExplicit),
    );
    for (const [key] of believed) this.#removals.delete(key);
    const removals = believed.map(([key]) => key).filter((key) => this.#held.delete(key));
    if (removals.length > 0) this.#onChange({ type: 'registry', isFull: false, upserts: [], removals });
    if (this.#removals.size > 0) {
      this.#log.debug({ entries: this.#removals.size }, 'removals from the registry wait until the store is in order');
      if (!this.#isClosed) this.#retry ??= setTimeout(() => this.#again(), settleRetryMs);
    }
  }

  #again(): void {
    this.#retry = null;
    void this.settleRemovals();
  }

  #emitFull(): void {
    const upserts = [...this.#held.values()].map((held) => held.entry);
    this.#onChange({ type: 'registry', isFull: true, upserts, removals: [] });
  }
}
