import { isDeepStrictEqual } from 'node:util';
import type { ParsedDocuments, ResourceLocation } from '../resources/parse/parse-documents.js';
import type { Problem } from '../resources/kinds/problem.js';
import { resourceId, resourceIdKey, resourceKey, type ResourceId } from '../resources/kinds/resource-key.js';
import type { Resource } from '../resources/kinds/resource.js';
import type { Service } from '../resources/kinds/service.js';
import { validatingSet, type ValidateOptions } from '../compile/check/validate-set.js';
import { resourcesOf, type Commit, type CommittedState } from '../release/committed-state.js';
import type { CompiledRevision } from '../release/compiled-revision.js';
import { ProblemList } from '../resources/parse/problem-list.js';
import { markingEarlier } from './earlier-warnings.js';
import type { ResourceChange } from './history.js';

export type Plan =
  | { readonly ok: false; readonly problems: readonly Problem[] }
  | {
      readonly ok: true;
      readonly changes: readonly ResourceChange[];
      readonly warnings: readonly Problem[];
      /** Null when nothing would change. */
      readonly commit: Commit | null;
      /** Where the documents of the change were written, by resource key. */
      readonly locations: ReadonlyMap<string, ResourceLocation>;
    };

/** A checked change. `commit` is null when it changes nothing. */
export type CompiledChange =
  | { readonly problems: readonly Problem[] }
  | { readonly commit: null; readonly warnings: readonly Problem[] }
  | { readonly commit: Commit; readonly release: CompiledRevision; readonly warnings: readonly Problem[] };

/** `message` is the author's comment on the change; it may be empty. */
export type Author = { readonly by: string; readonly nowMs: number; readonly message?: string };

/** What rules are checked against: the services after the change, and access to the whole registry after it. */
export type Among = { readonly services: readonly Service[] } & Required<
  Pick<ValidateOptions, 'among' | 'trustDomain'>
>;

/** Plans to apply rules to a state, in steps. Validates the whole resulting set. Changes nothing. */
export function* planningApply(
  state: CommittedState,
  parsed: ParsedDocuments,
  author: Author,
  { services, ...where }: Among,
): Generator<void, Plan> {
  const wanted = new Map(parsed.resources.map((resource) => [resourceKey(resource), resource]));
  const kept = [...state.resources.values()].filter((stored) => !wanted.has(stored.key));
  const resources = [...kept.map((stored) => stored.resource), ...wanted.values(), ...services];
  const checked = yield* validatingSet(resources, parsed.locations, { nowMs: author.nowMs, ...where });
  const problems = [...parsed.problems, ...checked];
  if (problems.some((problem) => problem.severity === 'error')) return { ok: false, problems };
  const changes: ResourceChange[] = [];
  const changed: [key: string, resource: Resource][] = [];
  for (const [key, resource] of wanted) {
    const change = changeOf(state.resources.get(key)?.resource, resource);
    changes.push({ ...resourceId(resource), change });
    if (change !== 'unchanged') changed.push([key, resource]);
    yield;
  }
  const base = nextCommit(state, author);
  const puts = changed.map(([key, resource]) => ({
    key,
    resource,
    revision: base.revision,
    appliedAt: base.createdAt,
    appliedBy: author.by,
  }));
  const commit = puts.length === 0 ? null : { ...base, puts };
  const { nowMs } = author;
  const warnings = yield* markingEarlier(problems, { before: state, services, changed: changes, nowMs, ...where });
  const expired = expiredRules(changed, parsed.locations, nowMs);
  return { ok: true, changes, warnings: [...warnings, ...expired], commit, locations: parsed.locations };
}

/** Rules that say nothing from the moment on at which they are applied. */
function expiredRules(
  changed: readonly (readonly [key: string, resource: Resource])[],
  locations: ReadonlyMap<string, ResourceLocation>,
  nowMs: number,
): readonly Problem[] {
  const problems = new ProblemList({ locations });
  for (const [, resource] of changed) {
    if (resource.kind !== 'SegmentationRule') continue;
    const { expiresAt } = resource.spec;
    if (expiresAt === undefined || Date.parse(expiresAt) > nowMs) continue;
    const message = `has expired at ${expiresAt}, so the rule matches nothing`;
    problems.warn({ resource, path: ['spec', 'expiresAt'] }, message, 'set a later time, or leave the rule out');
  }
  return problems.warnings;
}

/**
 * Plans to delete documents that exist, all or none of them, in steps. One that others refer to can be deleted only together
 * with these.
 */
export function* planningDelete(
  state: CommittedState,
  ids: readonly ResourceId[],
  author: Author,
  { services, ...where }: Among,
): Generator<void, Plan> {
  if (ids.length === 0) return { ok: true, changes: [], warnings: [], commit: null, locations: new Map() };
  const deletes = ids.map(resourceIdKey);
  const gone = new Set(deletes);
  const rest = resourcesOf(state).filter((resource) => !gone.has(resourceKey(resource)));
  const problems = yield* validatingSet([...rest, ...services], new Map(), { nowMs: author.nowMs, ...where });
  if (problems.some((problem) => problem.severity === 'error')) return { ok: false, problems };
  const commit = { ...nextCommit(state, author), deletes };
  const { nowMs } = author;
  const warnings = yield* markingEarlier(problems, { before: state, services, changed: ids, nowMs, ...where });
  const changes = ids.map((id) => ({ ...id, change: 'deleted' as const }));
  return { ok: true, changes, warnings, commit, locations: new Map() };
}

/** An empty commit of the next revision. */
export function nextCommit(state: CommittedState, { by, nowMs, message = '' }: Author): Commit {
  return {
    revision: state.revision + 1,
    createdAt: new Date(nowMs).toISOString(),
    createdBy: by,
    ...(message === '' ? {} : { message }),
    puts: [],
    deletes: [],
  };
}

function changeOf(present: Resource | undefined, wanted: Resource): 'created' | 'configured' | 'unchanged' {
  if (present === undefined) return 'created';
  return isSame(present, wanted) ? 'unchanged' : 'configured';
}

function isSame(present: Resource | undefined, wanted: Resource): boolean {
  return isDeepStrictEqual(present, wanted);
}
