import { defaultMesh, type Mesh } from '../model/mesh.js';
import { ProblemList } from '../model/problem-list.js';
import type { Problem } from '../model/problem.js';
import type { Resource } from '../model/resource.js';
import { compileAuthorization } from './compile-authorization.js';
import { compileRules } from './compile-rules.js';
import { plainSnapshot, type Snapshot } from './snapshot.js';

export type SnapshotMeta = Pick<Snapshot, 'revision' | 'createdAt' | 'createdBy' | 'trustDomain'>;

/**
 * Compiles a whole set of resources. The same set gives the same snapshot, in whatever order it comes. Problems are
 * missing and circular segments; `validateSet` finds these too and more, and comes first.
 */
export function compileSnapshot(
  resources: readonly Resource[],
  meta: SnapshotMeta,
): { readonly snapshot: Snapshot } | { readonly problems: readonly Problem[] } {
  const problems = new ProblemList({ locations: new Map() });
  const rules = compileRules(resources, problems);
  if (problems.errors.length > 0) return { problems: problems.errors };
  const policies = resources.filter((resource) => resource.kind === 'AuthorizationPolicy');
  const settings: Mesh['spec'] = resources.find((resource) => resource.kind === 'Mesh')?.spec ?? defaultMesh;
  const mesh = { ...settings, outbound: settings.outbound ?? settings.defaultAction };
  const { revision, createdAt, createdBy, trustDomain } = meta;
  const authorizationPolicies = compileAuthorization(policies, trustDomain);
  return {
    snapshot: { revision, createdAt, createdBy, trustDomain, mesh, rules, authorizationPolicies, ...plainSnapshot },
  };
}
