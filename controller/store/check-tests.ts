import { runRuleTests } from '../analysis/tests/rule-tests.js';
import type { ResourceLocation } from '../resources/parse/parse-documents.js';
import { formatResourceId, resourceId } from '../resources/kinds/resource-key.js';
import type { Problem } from '../resources/kinds/problem.js';
import { prepareSnapshot } from '../../shared/policy/prepared/prepared-snapshot.js';
import type { CompiledRevision } from '../release/compiled-revision.js';
import { resourcesOf, type Commit } from '../release/committed-state.js';

/**
 * Runs the `tests` of all rules on what a change would bring about. A test that fails is an error; only when it failed
 * before already, and its own rule does not change, it is a warning: a rule that has expired meanwhile must not stand in
 * the way of every other change.
 */
export function checkTests(input: {
  readonly before: CompiledRevision;
  readonly after: CompiledRevision;
  readonly commit: Commit;
  readonly locations: ReadonlyMap<string, ResourceLocation>;
  readonly nowMs: number;
}): Problem[] {
  const { before, after, commit, locations, nowMs } = input;
  const found = failingTests(after, nowMs, locations, before);
  if (!found.some(({ severity }) => severity === 'error')) return found;
  const written = new Set(commit.puts.map(({ resource }) => formatResourceId(resourceId(resource))));
  const failedBefore = new Set(
    failingTests(before, nowMs)
      .filter(({ severity }) => severity === 'error')
      .map(placeOf),
  );
  return found.map((problem) => {
    const isOld = failedBefore.has(placeOf(problem)) && !written.has(problem.resource ?? '');
    return problem.severity === 'error' && isOld
      ? { ...problem, severity: 'warning', message: `${problem.message} (before this change too)` }
      : problem;
  });
}

/** Errors: tests that fail. Warnings: tests of names that nothing has. `previous`: what it differs from by little. */
export function failingTests(
  { state, snapshot, entries }: CompiledRevision,
  nowMs: number,
  locations: ReadonlyMap<string, ResourceLocation> = new Map(),
  previous: CompiledRevision | null = null,
): Problem[] {
  const resources = resourcesOf(state).filter(
    (resource) => resource.kind === 'SegmentationRule' && resource.spec.tests !== undefined,
  );
  if (resources.length === 0) return [];
  prepareSnapshot(snapshot, previous?.snapshot ?? null);
  return runRuleTests({ snapshot, entries, resources, locations, clock: { nowMs: () => nowMs } });
}

function placeOf({ resource, path }: Problem): string {
  return `${resource ?? ''} ${path}`;
}
