import type { DocumentsChange, StoredResource } from '../inventory/stored-resource.js';
import type { Resource } from '../resources/kinds/resource.js';

/** One applied change: everything that is needed to do it again. */
export type Commit = {
  readonly revision: number;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly createdBy: string;
  /** What its author said about it. */
  readonly message?: string;
  /** The revision whose documents it brings back. */
  readonly rollbackOf?: number;
  readonly puts: readonly StoredResource[];
  readonly deletes: readonly string[];
  /**
   * What the same apply does to workloads and services, which are the inventory's: it takes this once, after the commit is
   * in the journal. Absent: nothing. (Before there was an inventory they were among `puts` and `deletes`.)
   */
  readonly inventory?: DocumentsChange;
};

/** All rule documents that people have applied, up to a revision. Never modified: a commit makes a new one. */
export type CommittedState = {
  /** 0: nothing was ever applied. */
  readonly revision: number;
  readonly createdAt: string;
  readonly createdBy: string;
  readonly resources: ReadonlyMap<string, StoredResource>;
};

export const emptyState: CommittedState = {
  revision: 0,
  createdAt: new Date(0).toISOString(),
  createdBy: 'system',
  resources: new Map(),
};

export function applyCommit(state: CommittedState, commit: Commit): CommittedState {
  const resources = new Map(state.resources);
  for (const key of commit.deletes) resources.delete(key);
  for (const stored of commit.puts) resources.set(stored.key, stored);
  return { revision: commit.revision, createdAt: commit.createdAt, createdBy: commit.createdBy, resources };
}

/** The documents alone, in the order of their keys, so that what is compiled from them does not depend on history. */
export function resourcesOf(state: CommittedState): Resource[] {
  return storedInOrder(state).map((stored) => stored.resource);
}

/** In the order of their keys. */
export function storedInOrder(state: CommittedState): StoredResource[] {
  return [...state.resources.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}
