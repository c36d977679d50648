import type { DocumentsChange, StoredResource } from '../inventory/stored-resource.js';
import type { Resource } from '../resources/kinds/resource.js';

/** One applied change, with everything that is needed to replay it. */
export type Commit = {
  readonly revision: number;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly createdBy: string;
  /** The author's comment on it. */
  readonly message?: string;
  /** The revision whose documents it restores. */
  readonly rollbackOf?: number;
  readonly puts: readonly StoredResource[];
  readonly deletes: readonly string[];
  /**
   * What the same apply does to workloads and services. The inventory applies this once, after the commit is in the
   * journal. Absent when there is nothing. (Before there was an inventory they were among `puts` and `deletes`.)
   */
  readonly inventory?: DocumentsChange;
};

/** All applied rule documents as of one revision. Immutable: a commit makes a new one. */
export type CommittedState = {
  /** 0 when nothing was ever applied. */
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

/** The documents in the order of their keys, so that the compiled result does not depend on history. */
export function resourcesOf(state: CommittedState): Resource[] {
  return storedInOrder(state).map((stored) => stored.resource);
}

/** In the order of their keys. */
export function storedInOrder(state: CommittedState): StoredResource[] {
  return [...state.resources.values()].sort((a, b) => (a.key < b.key ? -1 : 1));
}
