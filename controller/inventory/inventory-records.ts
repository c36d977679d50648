import type { RegistryEntry } from '../../shared/routing/registry-entry.js';
import { CulvertError } from '../../shared/errors.js';
import { encodeLine, playLines } from '../records/record-line.js';
import type { HeldEntry } from './merged-registry.js';
import type { NodeName } from '../../shared/routing/names.js';
import type { StoredResource } from './stored-resource.js';

/**
 * `inventory.log`: a header, the groups of entries, and then one record per write with the changes that shared it. It is
 * one record per write because a crash in the middle of a write may damage only the last line.
 */
export type InventoryRecord =
  | {
      readonly kind: 'inventory';
      readonly version: 1;
      readonly sequence: number;
      /** The newest revision of the rules whose inventory part was applied. */
      readonly revision: number;
      /** Entries in the groups that follow. */
      readonly entries: number;
      /** By registry key: the sequences of published entries that differ from the one of the change that brought them. */
      readonly sequences: Readonly<Record<string, number>>;
      /** Nodes whose workloads are published without their identities; absent: none. */
      readonly withdrawn?: readonly NodeName[];
    }
  | { readonly kind: 'entries'; readonly entries: readonly WrittenEntry[] }
  | { readonly kind: 'changes'; readonly changes: readonly WrittenChange[] };

/** For the documents source only the document is written: the entry follows from it. */
export type WrittenEntry = { readonly source: string; readonly sequence: number } & (
  | { readonly document: StoredResource }
  | { readonly entry: RegistryEntry }
);

export type WrittenChange = {
  readonly sequence: number;
  readonly source: string;
  /** The revision of the rules that the change is a part of; absent when there is none. */
  readonly revision?: number;
  readonly upserts: readonly WrittenEntry[];
  /** Registry keys. */
  readonly removals: readonly string[];
  /** All nodes whose workloads are published without their identities, from this change on; absent: as before. */
  readonly withdrawn?: readonly NodeName[];
};

export function writtenEntry({ source, sequence, document, entry }: HeldEntry): WrittenEntry {
  return document === null ? { source, sequence, entry } : { source, sequence, document };
}

const groupSize = 64;

/** The whole inventory as the lines of a new file. */
export function* wholeInventory(init: {
  readonly sequence: number;
  readonly revision: number;
  readonly held: readonly HeldEntry[];
  readonly sequences: Readonly<Record<string, number>>;
  readonly withdrawn: readonly NodeName[];
}): Generator<Buffer> {
  const { sequence, revision, held, sequences, withdrawn } = init;
  yield encodeLine({
    kind: 'inventory',
    version: 1,
    sequence,
    revision,
    entries: held.length,
    sequences,
    ...(withdrawn.length === 0 ? {} : { withdrawn }),
  } satisfies InventoryRecord);
  for (let at = 0; at < held.length; at += groupSize) {
    const entries = held.slice(at, at + groupSize).map(writtenEntry);
    yield encodeLine({ kind: 'entries', entries } satisfies InventoryRecord);
  }
}

export type InventoryContent =
  | {
      readonly ok: true;
      readonly sequence: number;
      readonly revision: number;
      readonly entries: readonly WrittenEntry[];
      readonly sequences: ReadonlyMap<string, number>;
      readonly withdrawn: readonly NodeName[];
      readonly changes: readonly WrittenChange[];
      readonly validBytes: number;
      /** Where the changes begin. */
      readonly wholeBytes: number;
    }
  | { readonly ok: false; readonly problem: string };

/** Reads `inventory.log`; see {@link playLines} for damage. Errors: `STORE_INVALID` for a file of a later version. */
export function playInventory(bytes: Buffer): InventoryContent {
  let header: Extract<InventoryRecord, { kind: 'inventory' }> | undefined;
  const entries: WrittenEntry[] = [];
  const changes: WrittenChange[] = [];
  let wholeBytes = 0;
  const played = playLines(bytes, (value, size) => {
    const record = value as InventoryRecord;
    if (record.kind !== 'changes') wholeBytes += size;
    switch (record.kind) {
      case 'inventory':
        if (header !== undefined) return false;
        if (record.version !== 1) throw unknownVersion();
        header = record;
        return true;
      case 'entries':
        entries.push(...record.entries);
        return changes.length === 0;
      case 'changes':
        if ((record.changes[0]?.sequence ?? 0) <= (changes.at(-1)?.sequence ?? header?.sequence ?? 0)) return false;
        changes.push(...record.changes);
        return true;
    }
  });
  if (!played.ok) return played;
  if (header === undefined) return { ok: false, problem: 'it holds no complete record' };
  if (entries.length !== header.entries) {
    return { ok: false, problem: `it holds ${entries.length} of its ${header.entries} entries` };
  }
  const last = changes.at(-1);
  return {
    ok: true,
    sequence: last?.sequence ?? header.sequence,
    revision: changes.reduce((newest, { revision = 0 }) => Math.max(newest, revision), header.revision),
    entries,
    sequences: new Map(Object.entries(header.sequences)),
    withdrawn: header.withdrawn ?? [],
    changes,
    validBytes: played.validBytes,
    wholeBytes,
  };
}

/** This is not damage: moving the file aside would take every workload out of the mesh. */
function unknownVersion(): CulvertError {
  return new CulvertError({
    code: 'STORE_INVALID',
    message: 'inventory.log in the state directory was written by a later version',
    hint: 'run the version that wrote it',
  });
}
