import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { StoredResource } from './stored-resource.js';

/** One workload or service of a source. */
export type SourceEntry = {
  readonly entry: RegistryEntry;
  /** The document that the entry was made from; null when there is none. */
  readonly document: StoredResource | null;
};

/** Removals are registry keys. Removing a key that the source does not have is no error. */
export type SourceChange = { readonly upserts: readonly SourceEntry[]; readonly removals: readonly string[] };

/**
 * A source of registry entries. It owns its entries: no other source changes them, and it replaces them one by one or as a
 * whole. Both calls resolve when the change is on disk, or reject with CulvertError `JOURNAL_WRITE` (nothing was changed).
 * Concurrent changes share a write.
 */
export interface InventorySource {
  readonly name: string;
  /** Replaces all entries of the source: one that is not among `entries` is removed, but for those with a key in `kept`. */
  replaceAll(entries: Iterable<SourceEntry>, kept?: ReadonlySet<string>): Promise<SourceOutcome>;
  change(change: SourceChange): Promise<SourceOutcome>;
}

export type SourceOutcome = {
  /** The inventory's sequence after the change; the present one when nothing changed. */
  readonly sequence: number;
  /** Number of entries of the source that changed. */
  readonly changes: number;
  /** Conflicts that involve the changed entries. */
  readonly conflicts: readonly InventoryConflict[];
};

/** Two entries that claim the same thing; {@link compareClaimants} decides who wins. */
export type InventoryConflict = {
  /** An address, `NETNS on NODE`, or `the name`. */
  readonly claim: string;
  readonly winner: Claimant;
  readonly loser: Claimant;
};

/** `key` is the registry key. */
export type Claimant = { readonly source: string; readonly key: string };

export const documentsSource = 'documents';
/** Pods and services of a cluster. */
export const kubernetesSource = 'kubernetes';

/** Sources by rank, highest first. A source that is not listed ranks below them. */
const rankedSources: readonly string[] = [documentsSource, kubernetesSource];

/**
 * The order that decides conflicts; the first claimant wins:
 *
 * 1. `documents`: what a person wrote beats what a program found;
 * 2. the other sources by rank, and sources without a rank by name;
 * 3. within one source, by registry key: `service.…` before `workload.…`, then namespace and name.
 *
 * Of two entries with the same key, the loser is not published until the winner is gone. Of two entries with the same
 * address, or the same network namespace of a node, the loser is published without it: its agent then refuses that traffic,
 * and nothing reaches the wrong workload.
 */
export function compareClaimants(a: Claimant, b: Claimant): number {
  return rankOf(a.source) - rankOf(b.source) || compareText(a.source, b.source) || compareText(a.key, b.key);
}

function rankOf(source: string): number {
  const rank = rankedSources.indexOf(source);
  return rank < 0 ? rankedSources.length : rank;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
