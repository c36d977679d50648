import type { StoredResource } from '../inventory/stored-resource.js';
import { encodeLine, playLines } from '../records/record-line.js';
import type { Commit, CommittedState } from '../release/committed-state.js';
import { History } from './history.js';

/**
 * A record of the journal. The first is a checkpoint; the others are commits with rising revisions, and one mark that the
 * inventory has taken over workloads and services. See `record-line.ts` for the format.
 */
export type JournalRecord =
  | ({ readonly kind: 'commit' } & Commit)
  | {
      readonly kind: 'checkpoint';
      readonly revision: number;
      readonly createdAt: string;
      readonly createdBy: string;
      readonly resources: readonly StoredResource[];
    }
  /** The inventory has taken over the workloads and services in records up to this revision; those are history only. */
  | { readonly kind: 'inventory'; readonly since: number };

export function encodeRecord(record: JournalRecord): Buffer {
  return encodeLine(record);
}

/** A history as records: its base as the checkpoint, and the commits since. */
export function recordsOf({ base, records, inventorySince }: History): JournalRecord[] {
  const { revision, createdAt, createdBy } = base;
  const resources = [...base.resources.values()];
  return [
    { kind: 'checkpoint', revision, createdAt, createdBy, resources },
    ...(inventorySince === null ? [] : [{ kind: 'inventory', since: inventorySince } as const]),
    ...records.map(({ commit }) => ({ kind: 'commit', ...commit }) as const),
  ];
}

export type JournalContent =
  | { readonly ok: true; readonly history: History; readonly validBytes: number }
  | { readonly ok: false; readonly problem: string };

/** Replays a journal; see {@link playLines} for damage. */
export function playJournal(bytes: Buffer): JournalContent {
  let history: History | undefined;
  let since: number | null = null;
  const played = playLines(bytes, (value, size) => {
    const record = value as JournalRecord;
    if (record.kind === 'inventory') {
      since = record.since;
      return history !== undefined;
    }
    const next = play(history, record, size);
    history = next ?? history;
    return next !== undefined;
  });
  if (!played.ok) return played;
  if (history === undefined) return { ok: false, problem: 'it holds no complete record' };
  return {
    ok: true,
    history: since === null ? history : history.withInventorySince(since),
    validBytes: played.validBytes,
  };
}

function play(
  history: History | undefined,
  record: Exclude<JournalRecord, { kind: 'inventory' }>,
  bytes: number,
): History | undefined {
  if (record.kind === 'checkpoint') return history === undefined ? History.startingAt(startOf(record)) : undefined;
  const { kind: _, ...commit } = record;
  return history === undefined || commit.revision <= history.head.revision ? undefined : history.with(commit, bytes);
}

export function startOf(record: Extract<JournalRecord, { kind: 'checkpoint' }>): CommittedState {
  const { revision, createdAt, createdBy } = record;
  return { revision, createdAt, createdBy, resources: new Map(record.resources.map((stored) => [stored.key, stored])) };
}
