import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import type { StoredResource } from './stored-resource.js';

/** What a source says of one workload or service. */
export type SourceEntry = {
  readonly entry: RegistryEntry;
  /** The document that it was made from; null: it was made from none. */
  readonly document: StoredResource | null;
};

/** Removals are registry keys. What a source does not have is removed without an error. */
export type SourceChange = { readonly upserts: readonly SourceEntry[]; readonly removals: readonly string[] };

/**
 * A place that entries of the registry come from. Its entries are its own: no other source changes them, and it replaces
 * them one by one or as a whole. Both calls resolve when the change is on disk, and reject with CulvertError
 * `JOURNAL_WRITE` (nothing was changed). Changes of one moment share a write.
 */
export interface InventorySource {
  readonly name: string;
  /** What is not among `entries` goes. */
  replaceAll(entries: Iterable<SourceEntry>): Promise<SourceOutcome>;
  change(change: SourceChange): Promise<SourceOutcome>;
}

export type SourceOutcome = {
  /** Of the inventory after the change; the present one when nothing changed. */
  readonly sequence: number;
  /** Entries of the source that are others than before. */
  readonly changes: number;
  /** Conflicts of the entries that the change touched. */
  readonly conflicts: readonly InventoryConflict[];
};

/** Two entries that claim the same thing; see {@link compareClaimants} for who has it. */
export type InventoryConflict = {
  /** An address, `NETNS on NODE`, or `the name`. */
  readonly claim: string;
  readonly winner: Claimant;
  readonly loser: Claimant;
};

/** `key`: of the registry. */
export type Claimant = { readonly source: string; readonly key: string };

export const documentsSource = 'documents';

/** Sources in the order of their rank; one that is not here comes after them. */
const rankedSources: readonly string[] = [documentsSource];

/**
 * The one order in which conflicts are decided; who comes first has it:
 *
 * 1. `documents`: what a person has written beats what a program has found;
 * 2. the other sources in the fixed order of their ranks; without a rank, by the name of the source;
 * 3. within one source, by registry key, which is `service.…` before `workload.…` and then namespace and name.
 *
 * Of two entries with the same key the whole later one is left out, until the first is gone. Of two entries with the same
 * address, or the same network namespace of a node, the later one is published without it: its agent then refuses what
 * was meant for it, and nothing goes to the wrong one.
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
