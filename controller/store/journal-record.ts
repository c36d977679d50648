import { createHash } from 'node:crypto';
import { applyCommit, type Commit, type CommittedState, type StoredResource } from './committed-state.js';

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

export type JournalContent =
  | { readonly ok: true; readonly state: CommittedState; readonly records: number; readonly validBytes: number }
  | { readonly ok: false; readonly problem: string };

/**
 * Plays a journal. A damaged last line is what a crash in the middle of a write leaves: it was never acknowledged, so
 * `validBytes` ends before it. Damage anywhere else means that the disk lost something, and nothing is used.
 */
export function playJournal(bytes: Buffer): JournalContent {
  let state: CommittedState | undefined;
  let records = 0;
  let offset = 0;
  while (offset < bytes.length) {
    const end = bytes.indexOf(0x0a, offset);
    const record = end < 0 ? undefined : decodeRecord(bytes.toString('utf8', offset, end));
    if (record === undefined) {
      if (end < 0 || end === bytes.length - 1) break;
      return { ok: false, problem: `record ${records + 1} at byte ${offset} is damaged` };
    }
    const next = play(state, record);
    if (next === undefined) return { ok: false, problem: `record ${records + 1} does not follow the one before it` };
    state = next;
    records += 1;
    offset = end + 1;
  }
  return state === undefined
    ? { ok: false, problem: 'it holds no complete record' }
    : { ok: true, state, records, validBytes: offset };
}

function play(state: CommittedState | undefined, record: JournalRecord): CommittedState | undefined {
  if (record.kind === 'checkpoint') {
    if (state !== undefined) return undefined;
    const resources = new Map(record.resources.map((stored) => [stored.key, stored]));
    return { revision: record.revision, createdAt: record.createdAt, createdBy: record.createdBy, resources };
  }
  return state === undefined || record.revision <= state.revision ? undefined : applyCommit(state, record);
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
