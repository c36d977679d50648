import type { CommittedState } from '../release/committed-state.js';
import type { Problem } from '../resources/kinds/problem.js';
import { resourceId, resourceIdKey, resourceKey, type ResourceId } from '../resources/kinds/resource-key.js';
import type { Resource } from '../resources/kinds/resource.js';
import { ProblemList } from '../resources/parse/problem-list.js';
import type { ResourceLocation } from '../resources/parse/parse-documents.js';
import { isInventoryDocument } from '../inventory/stored-resource.js';
import { formatKubectlName } from '../resources/custom/custom-kinds.js';

/** Documents that a change of documents must not touch, because a cluster has them as custom resources. */
export function ownedByCluster(
  { resources }: Pick<CommittedState, 'resources'>,
  wanted: readonly Resource[],
  locations: ReadonlyMap<string, ResourceLocation>,
): readonly Problem[] {
  const problems = new ProblemList({ locations });
  for (const resource of wanted) {
    if (resources.get(resourceKey(resource))?.origin !== 'cluster') continue;
    problems.error({ resource, path: ['metadata', 'name'] }, message, hintFor(resourceId(resource)));
  }
  return problems.errors;
}

/** Objects of a cluster that documents have already. */
export function takenByDocuments(
  { resources }: Pick<CommittedState, 'resources'>,
  wanted: readonly Resource[],
): readonly Problem[] {
  const problems = new ProblemList({ locations: new Map() });
  for (const resource of wanted) {
    const stored = resources.get(resourceKey(resource));
    if (stored === undefined || stored.origin === 'cluster') continue;
    const { kind, namespace, name } = resourceId(resource);
    const place = namespace === null ? '' : ` -n ${namespace}`;
    problems.error(
      { resource, path: ['metadata', 'name'] },
      `conflicts with a document of the same name, which ${stored.appliedBy} applied at revision ${stored.revision}`,
      `delete one of the two: culvert delete ${kind} ${name}${place}`,
    );
  }
  return problems.errors;
}

const message = 'is a custom resource of the cluster, and is changed there only';

function hintFor(id: ResourceId): string {
  return `use kubectl, or delete it there first: kubectl delete ${formatKubectlName(id)}`;
}

/** The same for documents to delete. */
export function deletedInCluster(
  state: Pick<CommittedState, 'resources'>,
  ids: readonly ResourceId[],
): readonly Problem[] {
  const wanted = ids.flatMap((id) => state.resources.get(resourceIdKey(id))?.resource ?? []);
  return ownedByCluster(state, wanted, new Map());
}

/**
 * What a rollback to `target` restores: its documents, and the custom resources as they are now. Those that it had then are the
 * cluster's to restore.
 */
export function targetOfRollback(
  present: CommittedState,
  target: CommittedState,
): { readonly target: CommittedState; readonly problems: readonly Problem[] } {
  const documents = [...target.resources].filter(
    ([key, { origin }]) => origin !== 'cluster' && !isInventoryDocument(key),
  );
  const custom = [...present.resources].filter(([, { origin }]) => origin === 'cluster');
  const problems = ownedByCluster(
    present,
    documents.map(([, { resource }]) => resource),
    new Map(),
  );
  return { target: { ...target, resources: new Map([...documents, ...custom]) }, problems };
}
