import { isDeepStrictEqual } from 'node:util';
import { resourceId, type ResourceId } from '../resources/kinds/resource-key.js';
import { isInventoryDocument } from '../inventory/stored-resource.js';
import { applyCommit, emptyState, type Commit, type CommittedState } from '../release/committed-state.js';

/** What a change does to one document. */
export type ResourceChange = ResourceId & { readonly change: 'created' | 'configured' | 'unchanged' | 'deleted' };

export type HistoryRecord = {
  readonly commit: Commit;
  readonly changes: readonly ResourceChange[];
  /** Its size in the journal. */
  readonly bytes: number;
};

/** How much history to keep, both at least 1. The present state is always kept. */
export type HistoryLimits = { readonly maxRevisions: number; readonly maxBytes: number };

export const defaultHistoryLimits: HistoryLimits = { maxRevisions: 200, maxBytes: 64 * 1024 * 1024 };

/**
 * The kept revisions: the state before the oldest one, and the change that each one made. Immutable. The documents of any
 * kept revision can be rebuilt from it; unchanged ones are shared with the present state.
 */
export class History {
  /** The state before the oldest record. Which change led to it is no longer known; revision 0 had none. */
  readonly base: CommittedState;
  /** The state after the newest record. */
  readonly head: CommittedState;
  /** Oldest first, in ascending revisions. */
  readonly records: readonly HistoryRecord[];
  /**
   * Until this revision, workloads and services were among the documents. Null when they still are, so that the inventory
   * has to take them over. Their earlier changes stay in the records, but the head does not contain them.
   */
  readonly inventorySince: number | null;

  private constructor(init: Pick<History, 'base' | 'head' | 'records' | 'inventorySince'>) {
    this.base = init.base;
    this.head = init.head;
    this.records = init.records;
    this.inventorySince = init.inventorySince;
  }

  /** `inventorySince` is null for a journal from before there was an inventory. */
  static startingAt(state: CommittedState, inventorySince: number | null = null): History {
    return new History({ base: state, head: state, records: [], inventorySince });
  }

  /** The same history, with workloads and services removed from the head. */
  withInventorySince(inventorySince: number): History {
    const { base, records, head } = this;
    return new History({ base, records, head: withoutInventory(head), inventorySince });
  }

  /** Adds a commit. `bytes` is the size of its record in the journal. */
  with(commit: Commit, bytes: number): History {
    const record = { commit, changes: changesOf(this.head, commit), bytes };
    const { base, inventorySince } = this;
    return new History({
      base,
      head: applyCommit(this.head, commit),
      records: [...this.records, record],
      inventorySince,
    });
  }

  /** The same history without the oldest records that exceed a limit. The newest record always stays. */
  within({ maxRevisions, maxBytes }: HistoryLimits): History {
    const { records } = this;
    let first = records.length;
    let bytes = 0;
    while (first > 0 && records.length - first < maxRevisions) {
      bytes += records[first - 1]?.bytes ?? 0;
      if (bytes > maxBytes && first < records.length) break;
      first -= 1;
    }
    if (first === 0) return this;
    const played = play(this.base, records.slice(0, first));
    const isRulesOnly = this.inventorySince !== null && played.revision >= this.inventorySince;
    const base = isRulesOnly ? withoutInventory(played) : played;
    const { head, inventorySince } = this;
    return new History({ base, head, records: records.slice(first), inventorySince });
  }

  /** The oldest revision whose documents are known; null when nothing was ever applied. */
  get oldestRevision(): number | null {
    return this.base.revision > 0 ? this.base.revision : (this.records[0]?.commit.revision ?? null);
  }

  /** The documents of a revision; undefined when it does not exist or is no longer kept. */
  stateAt(revision: number): CommittedState | undefined {
    if (revision === this.head.revision) return this.head;
    if (revision === this.base.revision) return revision > 0 ? this.base : undefined;
    const position = this.records.findIndex(({ commit }) => commit.revision === revision);
    return position < 0 ? undefined : play(this.base, this.records.slice(0, position + 1));
  }

  /** The state before the change of a kept revision; undefined as in {@link stateAt}, and for the base. */
  stateBefore(revision: number): CommittedState | undefined {
    const position = this.records.findIndex(({ commit }) => commit.revision === revision);
    return position < 0 ? undefined : play(this.base, this.records.slice(0, position));
  }
}

function withoutInventory(state: CommittedState): CommittedState {
  const resources = new Map([...state.resources].filter(([key]) => !isInventoryDocument(key)));
  return { ...state, resources };
}

/** Like repeated {@link applyCommit}, but copies the documents only once. */
function play(base: CommittedState, records: readonly HistoryRecord[]): CommittedState {
  const last = records.at(-1);
  if (last === undefined) return base;
  const resources = new Map(base.resources);
  for (const { commit } of records) {
    for (const key of commit.deletes) resources.delete(key);
    for (const stored of commit.puts) resources.set(stored.key, stored);
  }
  const { revision, createdAt, createdBy } = last.commit;
  return { revision, createdAt, createdBy, resources };
}

function changesOf(before: CommittedState, commit: Commit): ResourceChange[] {
  const changes: ResourceChange[] = [];
  for (const key of commit.deletes) {
    const present = before.resources.get(key);
    if (present !== undefined) changes.push({ ...resourceId(present.resource), change: 'deleted' });
  }
  for (const { key, resource } of commit.puts) {
    const present = before.resources.get(key)?.resource;
    if (present !== undefined && isDeepStrictEqual(present, resource)) continue;
    changes.push({ ...resourceId(resource), change: present === undefined ? 'created' : 'configured' });
  }
  return changes;
}

export const emptyHistory = History.startingAt(emptyState, 0);
