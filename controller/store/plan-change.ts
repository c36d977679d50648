import { isDeepStrictEqual } from 'node:util';
import type { ParsedDocuments, ResourceLocation } from '../resources/parse/parse-documents.js';
import type { Problem } from '../resources/kinds/problem.js';
import { resourceId, resourceIdKey, resourceKey, type ResourceId } from '../resources/kinds/resource-key.js';
import type { Resource } from '../resources/kinds/resource.js';
import { validateSet, validatingSet } from '../compile/check/validate-set.js';
import { resourcesOf, type Commit, type CommittedState } from '../release/committed-state.js';
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

/** `message`: what the author says about the change; empty: nothing. */
export type Author = { readonly by: string; readonly nowMs: number; readonly message?: string };

/** What applying documents to a state would do, in steps. Validates the whole set that results. Changes nothing. */
export function* planningApply(state: CommittedState, parsed: ParsedDocuments, author: Author): Generator<void, Plan> {
  const wanted = new Map(parsed.resources.map((resource) => [resourceKey(resource), resource]));
  const kept = [...state.resources.values()].filter((stored) => !wanted.has(stored.key));
  const checked = yield* validatingSet(
    [...kept.map((stored) => stored.resource), ...wanted.values()],
    parsed.locations,
    {
      nowMs: author.nowMs,
    },
  );
  const problems = [...parsed.problems, ...checked];
  if (problems.some((problem) => problem.severity === 'error')) return { ok: false, problems };
  const changes = [...wanted].map(([key, resource]) => ({
    ...resourceId(resource),
    change: changeOf(state.resources.get(key)?.resource, resource),
  }));
  const changed = [...wanted].filter(([key, resource]) => !isSame(state.resources.get(key)?.resource, resource));
  const base = nextCommit(state, author);
  const puts = changed.map(([key, resource]) => ({
    key,
    resource,
    revision: base.revision,
    appliedAt: base.createdAt,
    appliedBy: author.by,
  }));
  const commit = puts.length === 0 ? null : { ...base, puts };
  return { ok: true, changes, warnings: problems, commit, locations: parsed.locations };
}

/** What removing a document would do; undefined when there is none. A document that others refer to stays. */
export function planDelete(state: CommittedState, id: ResourceId, author: Author): Plan | undefined {
  const key = resourceIdKey(id);
  if (!state.resources.has(key)) return undefined;
  const rest = resourcesOf(state).filter((resource) => resourceKey(resource) !== key);
  const problems = validateSet(rest, new Map(), { nowMs: author.nowMs });
  if (problems.some((problem) => problem.severity === 'error')) return { ok: false, problems };
  const commit = { ...nextCommit(state, author), deletes: [key] };
  return { ok: true, changes: [{ ...id, change: 'deleted' }], warnings: problems, commit, locations: new Map() };
}

/** The next revision with nothing in it. */
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
