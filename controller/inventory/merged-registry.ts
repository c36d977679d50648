import { isDeepStrictEqual } from 'node:util';
import { RegisteredIndex, type Registered } from '../compile/check/registered.js';
import type { SpiffeId } from '../../shared/identity.js';
import type { NodeName } from '../../shared/routing/names.js';
import { registryKey, type RegistryEntry } from '../../shared/routing/registry-entry.js';
import { claimsOf, withoutClaims } from './entry-claims.js';
import { withoutIdentity } from './withdrawn-identity.js';
import { compareClaimants, type InventoryConflict, type SourceChange, type SourceEntry } from './inventory-source.js';

/** An entry of one source. */
export type HeldEntry = SourceEntry & {
  readonly source: string;
  readonly key: string;
  /** The sequence of the change that brought it. */
  readonly sequence: number;
};

/** An entry as it is published, with the sequence of the change that last altered it. */
export type PublishedEntry = { readonly entry: RegistryEntry; readonly sequence: number };

/** What one change did. Changes must be undone in reverse order. */
export type AppliedChange = {
  /** What the source held before, by registry key; only keys that really changed. */
  readonly held: ReadonlyMap<string, HeldEntry | undefined>;
  /** What was published before, by registry key; only keys that really changed. */
  readonly published: ReadonlyMap<string, PublishedEntry | undefined>;
  readonly conflicts: readonly InventoryConflict[];
  readonly undo: () => void;
};

/**
 * The entries of all sources, merged into one registry. A change reads only the entries that it names and those that claim
 * the same addresses, whatever the size of the registry. The order of changes does not matter: the same entries of the same
 * sources give the same registry.
 */
export class MergedRegistry {
  /** By source, then by registry key. */
  readonly #sources = new Map<string, Map<string, HeldEntry>>();
  /** By registry key; the winner first. */
  readonly #rivals = new Map<string, readonly HeldEntry[]>();
  /** By claim: the entries that make it and win their own key; the owner first. */
  readonly #claimants = new Map<string, readonly HeldEntry[]>();
  readonly #published = new Map<string, PublishedEntry>();
  /** By the key of the entry that loses something. */
  readonly #conflicts = new Map<string, readonly InventoryConflict[]>();
  readonly #registered = new RegisteredIndex();
  /** By node: how many of its workloads have an identity. */
  readonly #identities = new Map<NodeName, Map<SpiffeId, number>>();
  #withdrawn: ReadonlySet<NodeName> = new Set();

  get published(): ReadonlyMap<string, PublishedEntry> {
    return this.#published;
  }

  get registered(): Registered & Pick<RegisteredIndex, 'counts' | 'servicesIn'> {
    return this.#registered;
  }

  /** All present conflicts, in no particular order. */
  get conflicts(): InventoryConflict[] {
    return [...this.#conflicts.values()].flat();
  }

  get sources(): Iterable<string> {
    return this.#sources.keys();
  }

  /** The entries of one source, by registry key. */
  heldBy(source: string): ReadonlyMap<string, HeldEntry> {
    return this.#sources.get(source) ?? new Map();
  }

  /** The entry that wins a key; undefined when there is none. */
  winnerOf(key: string): HeldEntry | undefined {
    return this.#rivals.get(key)?.[0];
  }

  /** The entry that owns an address or another claim; undefined when there is none. */
  ownerOf(claim: string): HeldEntry | undefined {
    return this.#claimants.get(claim)?.[0];
  }

  /** The entries that make a claim and win their own key; the owner first. */
  claimantsOf(claim: string): readonly HeldEntry[] {
    return this.#claimants.get(claim) ?? [];
  }

  /** Whether a workload of this identity is registered on the node. */
  hasIdentity(node: NodeName, identity: SpiffeId): boolean {
    return this.#identities.get(node)?.has(identity) ?? false;
  }

  /** The nodes whose workloads are published without their identities. */
  get withdrawn(): ReadonlySet<NodeName> {
    return this.#withdrawn;
  }

  /** Replaces {@link withdrawn}; see {@link withoutIdentity}. `sequence` as for {@link apply}. */
  withdraw(nodes: ReadonlySet<NodeName>, sequence: number): AppliedChange {
    const before = this.#withdrawn;
    this.#withdrawn = nodes;
    const published = new Map<string, PublishedEntry | undefined>();
    for (const [key, { entry }] of this.#published) {
      if (entry.kind !== 'workload' || entry.node === null) continue;
      if (before.has(entry.node) !== nodes.has(entry.node)) this.#settle(key, sequence, published);
    }
    return {
      held: new Map(),
      published,
      conflicts: [],
      undo: () => {
        this.#withdrawn = before;
        for (const [key, entry] of published) this.#setPublished(key, entry);
      },
    };
  }

  /** `sequence` is that of the change, and higher than all before. */
  apply(source: string, { upserts, removals }: SourceChange, sequence: number): AppliedChange {
    const heldBefore = new Map<string, HeldEntry | undefined>();
    const touched = new Set<string>();
    const set = (key: string, held: HeldEntry | undefined): void => {
      const present = this.heldBy(source).get(key);
      if (held === undefined ? present === undefined : isSameHeld(present, held)) return;
      if (!heldBefore.has(key)) heldBefore.set(key, present);
      this.#setHeld(source, key, held, touched);
    };
    for (const key of removals) set(key, undefined);
    for (const { entry, document } of upserts) {
      const key = registryKey(entry);
      set(key, { source, key, entry, document, sequence });
    }
    const publishedBefore = new Map<string, PublishedEntry | undefined>();
    for (const key of touched) this.#settle(key, sequence, publishedBefore);
    const conflicts = [...touched].flatMap((key) => this.#conflicts.get(key) ?? []);
    return {
      held: heldBefore,
      published: publishedBefore,
      conflicts,
      undo: () => {
        const changed = new Set<string>();
        for (const [key, held] of heldBefore) this.#setHeld(source, key, held, changed);
        for (const key of changed) this.#noteConflicts(key);
        for (const [key, published] of publishedBefore) this.#setPublished(key, published);
      },
    };
  }

  /** Gives every published entry the sequence of a change, although none is altered. */
  renumber(sequence: number): AppliedChange {
    const before = new Map<string, PublishedEntry | undefined>(this.#published);
    for (const key of before.keys()) this.setSequence(key, sequence);
    const undo = (): void => {
      for (const [key, published] of before) if (published !== undefined) this.#published.set(key, published);
    };
    return { held: new Map(), published: before, conflicts: [], undo };
  }

  /** For entries read from disk whose sequence differs from that of the source's change. */
  setSequence(key: string, sequence: number): void {
    const published = this.#published.get(key);
    if (published !== undefined) this.#published.set(key, { ...published, sequence });
  }

  /** Sets or removes an entry of a source. Adds to `touched` the keys of all published entries that this may alter. */
  #setHeld(source: string, key: string, held: HeldEntry | undefined, touched: Set<string>): void {
    const ofSource = this.#sources.get(source) ?? new Map<string, HeldEntry>();
    this.#sources.set(source, ofSource);
    if (held === undefined) ofSource.delete(key);
    else ofSource.set(key, held);

    const before = this.#rivals.get(key) ?? [];
    const others = before.filter((rival) => rival.source !== source);
    const after = held === undefined ? others : [...others, held].sort(compareClaimants);
    if (after.length === 0) this.#rivals.delete(key);
    else this.#rivals.set(key, after);
    touched.add(key);
    const [loser, winner] = [before[0], after[0]];
    if (loser === winner) return;
    if (loser !== undefined) for (const claim of claimsOf(loser.entry)) this.#unclaim(claim, loser, touched);
    if (winner !== undefined) for (const claim of claimsOf(winner.entry)) this.#claim(claim, winner, touched);
  }

  #claim(claim: string, held: HeldEntry, touched: Set<string>): void {
    const present = this.#claimants.get(claim) ?? [];
    for (const { key } of present) touched.add(key);
    this.#claimants.set(claim, present.includes(held) ? present : [...present, held].sort(compareClaimants));
  }

  #unclaim(claim: string, held: HeldEntry, touched: Set<string>): void {
    const left = (this.#claimants.get(claim) ?? []).filter((other) => other !== held);
    for (const { key } of left) touched.add(key);
    if (left.length === 0) this.#claimants.delete(claim);
    else this.#claimants.set(claim, left);
  }

  /** Updates the published entry of a key. If it changes, `before` gets the old one. */
  #settle(key: string, sequence: number, before: Map<string, PublishedEntry | undefined>): void {
    const lost = this.#noteConflicts(key);
    const winner = this.#rivals.get(key)?.[0];
    const entry =
      winner === undefined ? undefined : withoutIdentity(withoutClaims(winner.entry, lost), this.#withdrawn);
    const present = this.#published.get(key);
    if (entry === present?.entry || isDeepStrictEqual(entry, present?.entry)) return;
    before.set(key, present);
    this.#setPublished(key, entry === undefined ? undefined : { entry, sequence });
  }

  /** Updates the conflicts of a key. Returns the claims that its entry loses. */
  #noteConflicts(key: string): ReadonlySet<string> {
    const [winner, ...shadowed] = this.#rivals.get(key) ?? [];
    const lost = new Set<string>();
    const conflicts: InventoryConflict[] = [];
    if (winner !== undefined) {
      for (const loser of shadowed) conflicts.push({ claim: 'the name', winner: nameOf(winner), loser: nameOf(loser) });
      for (const claim of claimsOf(winner.entry)) {
        const owner: HeldEntry = this.ownerOf(claim) ?? winner;
        if (owner === winner) continue;
        lost.add(claim);
        conflicts.push({ claim, winner: nameOf(owner), loser: nameOf(winner) });
      }
    }
    if (conflicts.length === 0) this.#conflicts.delete(key);
    else this.#conflicts.set(key, conflicts);
    return lost;
  }

  #setPublished(key: string, published: PublishedEntry | undefined): void {
    const before = this.#published.get(key);
    if (before !== undefined) this.#countIdentity(before.entry, -1);
    if (published === undefined) {
      this.#published.delete(key);
      if (before !== undefined) this.#registered.delete(before.entry);
      return;
    }
    this.#published.set(key, published);
    this.#registered.put(published.entry);
    this.#countIdentity(published.entry, 1);
  }

  #countIdentity(entry: RegistryEntry, by: 1 | -1): void {
    if (entry.kind !== 'workload' || entry.node === null) return;
    const ofNode = this.#identities.get(entry.node) ?? new Map<SpiffeId, number>();
    const count = (ofNode.get(entry.identity) ?? 0) + by;
    if (count === 0) ofNode.delete(entry.identity);
    else ofNode.set(entry.identity, count);
    if (ofNode.size === 0) this.#identities.delete(entry.node);
    else this.#identities.set(entry.node, ofNode);
  }
}

function nameOf({ source, key }: HeldEntry): { readonly source: string; readonly key: string } {
  return { source, key };
}

/** Ignores the sequence: an entry that a source repeats is no change. */
function isSameHeld(present: HeldEntry | undefined, held: HeldEntry): boolean {
  if (present === undefined || !isDeepStrictEqual(present.entry, held.entry)) return false;
  return isDeepStrictEqual(present.document?.resource, held.document?.resource);
}
