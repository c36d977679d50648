import { isDeepStrictEqual } from 'node:util';
import type { FieldProblem } from '../resources/parse/describe-issue.js';
import { formatPath, type Problem } from '../resources/kinds/problem.js';
import { readResource } from '../resources/parse/read-resource.js';
import { formatResourceId, resourceId } from '../resources/kinds/resource-key.js';
import type { Resource } from '../resources/kinds/resource.js';
import { validatingSet } from '../compile/check/validate-set.js';
import type { CommittedState } from '../release/committed-state.js';
import { markingEarlier } from './earlier-warnings.js';
import type { ResourceChange } from './history.js';
import { isInventoryDocument } from '../inventory/stored-resource.js';
import { nextCommit, type Among, type Author, type Plan } from './plan-change.js';

/**
 * Plans to restore the documents of `target`, in steps. Each is parsed as if it were applied now, so a field that this
 * version refuses is refused here too. Workloads and services belong to the inventory and stay as they are. Changes nothing.
 */
export function* planningRollback(
  state: CommittedState,
  target: CommittedState,
  author: Author,
  { services, ...where }: Among,
): Generator<void, Plan> {
  const wanted = new Map<string, Resource>();
  const problems: Problem[] = [];
  for (const { key, resource } of target.resources.values()) {
    if (isInventoryDocument(key)) continue;
    yield;
    const read = readResource(resource);
    if ('resource' in read) wanted.set(key, read.resource);
    else problems.push(...read.problems.map((problem) => unreadable(resource, problem)));
  }
  const checked = yield* validatingSet([...wanted.values(), ...services], new Map(), { nowMs: author.nowMs, ...where });
  problems.push(...checked);
  if (problems.some((problem) => problem.severity === 'error')) return { ok: false, problems };

  const base = nextCommit(state, author);
  const changed = [...wanted].filter(
    ([key, resource]) => !isDeepStrictEqual(state.resources.get(key)?.resource, resource),
  );
  const gone = [...state.resources.values()].filter((stored) => !wanted.has(stored.key));
  const changes: ResourceChange[] = [
    ...gone.map(({ resource }) => ({ ...resourceId(resource), change: 'deleted' as const })),
    ...changed.map(([key, resource]) => ({
      ...resourceId(resource),
      change: state.resources.has(key) ? ('configured' as const) : ('created' as const),
    })),
  ];
  const locations = new Map();
  const { nowMs } = author;
  const warnings = yield* markingEarlier(problems, { before: state, services, changed: changes, nowMs, ...where });
  if (changes.length === 0) return { ok: true, changes, warnings, commit: null, locations };
  const puts = changed.map(([key, resource]) => ({
    key,
    resource,
    revision: base.revision,
    appliedAt: base.createdAt,
    appliedBy: author.by,
  }));
  const deletes = gone.map((stored) => stored.key);
  const commit = { ...base, rollbackOf: target.revision, puts, deletes };
  return { ok: true, changes, warnings, commit, locations };
}

function unreadable(resource: Resource, { path, message, hint }: FieldProblem): Problem {
  return {
    severity: 'error',
    fileName: null,
    document: null,
    line: null,
    resource: formatResourceId(resourceId(resource)),
    path: formatPath(path),
    message,
    hint,
  };
}
