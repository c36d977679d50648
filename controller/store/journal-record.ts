import { createHash } from 'node:crypto';
import type { Commit, CommittedState, StoredResource } from '../release/committed-state.js';
import { History } from './history.js';

/**
 * A line of the journal: `<sha256 of the JSON, hex> <JSON>\n`. The first line is a checkpoint, all others commits with
 * rising revisions.
 */
export type JournalRecord =
  | ({ readonly kind: 'commit' } & Commit)
  | {
      readonly kind: 'checkpoint';
      readonly revision: number;
      readonly createdAt: string;
      readonly createdBy: string;
      readonly resources: readonly StoredResource[];
    };

export function encodeRecord(record: JournalRecord): Buffer {
  const json = JSON.stringify(record);
  return Buffer.from(`${digest(json)} ${json}\n`);
}

/** Undefined when the line is damaged. */
export function decodeRecord(line: string): JournalRecord | undefined {
  const json = line.slice(65);
  if (line[64] !== ' ' || digest(json) !== line.slice(0, 64)) return undefined;
  return JSON.parse(json) as JournalRecord;
}

/** The records that hold a history: its base as the checkpoint, and the commits since. */
export function recordsOf({ base, records }: History): JournalRecord[] {
  const { revision, createdAt, createdBy } = base;
  const resources = [...base.resources.values()];
  return [
    { kind: 'checkpoint', revision, createdAt, createdBy, resources },
    ...records.map(({ commit }) => ({ kind: 'commit', ...commit }) as const),
  ];
}

export type JournalContent =
  | { readonly ok: true; readonly history: History; readonly validBytes: number }
  | { readonly ok: false; readonly problem: string };

/**
 * Plays a journal. A damaged last line is what a crash in the middle of a write leaves: it was never acknowledged, so
 * `validBytes` ends before it. Damage anywhere else means that the disk lost something, and nothing is used.
 */
export function playJournal(bytes: Buffer): JournalContent {
  let history: History | undefined;
  let records = 0;
  let offset = 0;
  while (offset < bytes.length) {
    const end = bytes.indexOf(0x0a, offset);
    const record = end < 0 ? undefined : decodeRecord(bytes.toString('utf8', offset, end));
    if (record === undefined) {
      if (end < 0 || end === bytes.length - 1) break;
      return { ok: false, problem: `record ${records + 1} at byte ${offset} is damaged` };
    }
    const next = play(history, record, end + 1 - offset);
    if (next === undefined) return { ok: false, problem: `record ${records + 1} does not follow the one before it` };
    history = next;
    records += 1;
    offset = end + 1;
  }
  return history === undefined
    ? { ok: false, problem: 'it holds no complete record' }
    : { ok: true, history, validBytes: offset };
}

function play(history: History | undefined, record: JournalRecord, bytes: number): History | undefined {
  if (record.kind === 'checkpoint') return history === undefined ? History.startingAt(stateOf(record)) : undefined;
  const { kind: _, ...commit } = record;
  return history === undefined || commit.revision <= history.head.revision ? undefined : history.with(commit, bytes);
}

function stateOf(record: Extract<JournalRecord, { kind: 'checkpoint' }>): CommittedState {
  const { revision, createdAt, createdBy } = record;
  return { revision, createdAt, createdBy, resources: new Map(record.resources.map((stored) => [stored.key, stored])) };
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
