import { isDeepStrictEqual } from 'node:util';
import { resourceId, type ResourceId } from '../resources/kinds/resource-key.js';
import { isInventoryDocument } from '../inventory/stored-resource.js';
import { applyCommit, emptyState, type Commit, type CommittedState } from '../release/committed-state.js';

/** What a change does to one document. */
export type ResourceChange = ResourceId & { readonly change: 'created' | 'configured' | 'unchanged' | 'deleted' };

export type HistoryRecord = {
  readonly commit: Commit;
  readonly changes: readonly ResourceChange[];
  /** What it takes in the journal. */
  readonly bytes: number;
};

/** How much of the past is kept; the present state is, whatever it takes. Both at least 1. */
export type HistoryLimits = { readonly maxRevisions: number; readonly maxBytes: number };

export const defaultHistoryLimits: HistoryLimits = { maxRevisions: 200, maxBytes: 64 * 1024 * 1024 };

/**
 * The revisions that are kept: the state before the oldest of them, and the change that each made. Never modified. The
 * documents of any kept revision can be built again from it; they are shared with the present state where they did not
 * change since.
 */
export class History {
  /** Before the oldest record. Its own changes are no longer known (none were ever made at revision 0). */
  readonly base: CommittedState;
  /** After the newest. */
  readonly head: CommittedState;
  /** Oldest first, revisions rising. */
  readonly records: readonly HistoryRecord[];
  /**
   * The revision up to which workloads and services were among the documents; null: they still are, and the inventory has
   * to take them. What was changed until then stays in the records, and the head is without them.
   */
  readonly inventorySince: number | null;

  private constructor(init: Pick<History, 'base' | 'head' | 'records' | 'inventorySince'>) {
    this.base = init.base;
    this.head = init.head;
    this.records = init.records;
    this.inventorySince = init.inventorySince;
  }

  /** `inventorySince` null: of a journal from before there was an inventory. */
  static startingAt(state: CommittedState, inventorySince: number | null = null): History {
    return new History({ base: state, head: state, records: [], inventorySince });
  }

  /** The same with a head without workloads and services. */
  withInventorySince(inventorySince: number): History {
    const { base, records, head } = this;
    return new History({ base, records, head: withoutInventory(head), inventorySince });
  }

  /** `bytes`: of its record in the journal. */
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

  /** The same without the oldest records that are beyond a limit. The newest always stays. */
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

  /** The oldest revision whose documents are known; null: nothing was ever applied. */
  get oldestRevision(): number | null {
    return this.base.revision > 0 ? this.base.revision : (this.records[0]?.commit.revision ?? null);
  }

  /** Undefined when there is no such revision, or it is no longer kept. */
  stateAt(revision: number): CommittedState | undefined {
    if (revision === this.head.revision) return this.head;
    if (revision === this.base.revision) return revision > 0 ? this.base : undefined;
    const position = this.records.findIndex(({ commit }) => commit.revision === revision);
    return position < 0 ? undefined : play(this.base, this.records.slice(0, position + 1));
  }

  /** The state that the change of a kept revision was made to; undefined as in {@link stateAt}, and for the base. */
  stateBefore(revision: number): CommittedState | undefined {
    const position = this.records.findIndex(({ commit }) => commit.revision === revision);
    return position < 0 ? undefined : play(this.base, this.records.slice(0, position));
  }
}

function withoutInventory(state: CommittedState): CommittedState {
  const resources = new Map([...state.resources].filter(([key]) => !isInventoryDocument(key)));
  return { ...state, resources };
}

/** As {@link applyCommit} of one after the other, with one copy of the documents. */
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
