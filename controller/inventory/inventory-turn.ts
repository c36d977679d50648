import type { SourceChange } from './inventory-source.js';
import type { AppliedChange } from './merged-registry.js';
import type { StoredResource } from './stored-resource.js';

/** What `Inventory.exclusively` allows. All of it concerns the documents source. */
export type InventoryTurn = {
  /** Applies a change, calls `inspect`, and undoes the change. */
  readonly preview: <T>(change: SourceChange, inspect: (applied: AppliedChange) => T) => T;
  /** Writes a change that is part of a revision of the rules. Errors: `JOURNAL_WRITE` (nothing was changed). */
  readonly commit: (change: SourceChange, revision: number) => Promise<void>;
  /**
   * Replaces all documents, on disk, by those applied up to a sequence and a revision. The sequence of each entry is the
   * revision of its document. Errors: `JOURNAL_WRITE` (nothing was changed), `STORE_INVALID`.
   */
  readonly adopt: (
    documents: readonly StoredResource[],
    position: { readonly sequence: number; readonly revision: number },
  ) => Promise<void>;
  /**
   * Gives every published entry, and the registry, this sequence, on disk: for agents that have entries of a later one. Errors:
   * `JOURNAL_WRITE` (nothing was changed).
   */
  readonly renumber: (sequence: number) => Promise<void>;
};
