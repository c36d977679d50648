import { isDeepStrictEqual } from 'node:util';
import { linesOf } from '../records/record-line.js';
import type { Commit, CommittedState } from '../release/committed-state.js';
import { History } from './history.js';
import { encodeRecord, startOf, type JournalRecord } from './journal-record.js';

/** The whole records of a damaged journal. `later`: those behind the first damage. */
export type Salvaged = {
  readonly base: CommittedState;
  readonly since: number;
  readonly earlier: readonly Commit[];
  readonly later: readonly Commit[];
};

/** Null when the state that the commits build on is damaged itself. */
export function salvage(bytes: Buffer): Salvaged | null {
  let base: CommittedState | null = null;
  let since: number | null = null;
  let isDamaged = false;
  const [earlier, later]: [Commit[], Commit[]] = [[], []];
  for (const line of linesOf(bytes)) {
    const record = line as JournalRecord | undefined;
    if (record === undefined) isDamaged = true;
    else if (record.kind === 'inventory') since = record.since;
    else if (record.kind === 'checkpoint') base ??= isDamaged ? null : startOf(record);
    else {
      const { kind: _, ...commit } = record;
      const last = later.at(-1) ?? earlier.at(-1) ?? base;
      if (last === null || commit.revision <= last.revision) continue;
      (isDamaged ? later : earlier).push(commit);
    }
  }
  return base === null || since === null ? null : { base, since, earlier, later };
}

/**
 * The history of a damaged journal up to a state that is known from elsewhere. In the place of the damage is one change with
 * all that the lost ones must have done. Without history where that does not lead to the state.
 */
export function rejoined({ base, since, earlier, later }: Salvaged, state: CommittedState): History {
  const behind = later.filter(({ revision }) => revision <= state.revision);
  const played = [...earlier, ...behind].reduce(add, History.startingAt(base, since));
  const lastBefore = earlier.at(-1)?.revision ?? base.revision;
  const lost = (revision: number): Commit => ({
    revision,
    createdAt: state.createdAt,
    createdBy: 'system',
    message: `journal.log was damaged: the changes behind revision ${lastBefore} until this one are lost, and summed up here`,
    puts: [...state.resources.values()].filter(
      (stored) => !isDeepStrictEqual(played.head.resources.get(stored.key), stored),
    ),
    deletes: [...played.head.resources.keys()].filter((key) => !state.resources.has(key)),
  });
  const [next] = behind;
  const gapAt = next === undefined ? state.revision : next.revision - 1;
  const commits = [...earlier, ...(gapAt > lastBefore ? [lost(gapAt)] : []), ...behind];
  const last = commits.at(-1);
  if (last !== undefined && last.revision < state.revision)
    commits.push({ ...lost(state.revision), puts: [], deletes: [] });
  const history = commits.reduce(add, History.startingAt(base, since)).withInventorySince(since);
  const { revision, resources } = history.head;
  const isSame = revision === state.revision && isDeepStrictEqual(resources, state.resources);
  return isSame ? history : History.startingAt(state, state.revision);
}

function add(history: History, commit: Commit): History {
  return history.with(commit, encodeRecord({ kind: 'commit', ...commit }).length);
}
