import type { ResourceLocation } from '../../resources/parse/parse-documents.js';
import { ProblemList } from '../../resources/parse/problem-list.js';
import type { Problem } from '../../resources/kinds/problem.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { Clock } from '../../../shared/policy/connection.js';
import { runAssertions } from './assertions.js';
import { outsideItsTime } from './outside-its-time.js';
import type { RuleSet } from '../pairs/rule-set.js';

/**
 * Runs the `tests` of every SegmentationRule, including rules of mode `off`, on the whole set that is to be in force. A
 * failing test is an error at its place; a test of an unknown name is a warning. Errors come first.
 */
export function runRuleTests({
  resources,
  locations = new Map(),
  clock,
  ...set
}: RuleSet & {
  readonly resources: readonly Resource[];
  readonly locations?: ReadonlyMap<string, ResourceLocation>;
  readonly clock: Clock;
}): Problem[] {
  const problems = new ProblemList({ locations });
  for (const resource of resources) {
    if (resource.kind !== 'SegmentationRule') continue;
    const results = runAssertions({ ...set, assertions: resource.spec.tests ?? [], clock });
    for (const [index, { assertion, failure, note, unproved }] of results.entries()) {
      const place = { resource, path: ['spec', 'tests', index] };
      if (failure !== null) {
        const outside = outsideItsTime({ rule: resource, test: assertion, clock });
        const why = [outside?.text ?? null, unproved].map((text) => (text === null ? '' : `; ${text}`)).join('');
        problems.error(place, `the test fails: ${failure}${why}`, outside?.hint ?? 'correct the rules or the test');
      }
      if (failure === null && note !== null)
        problems.warn(place, note, 'the test says nothing of a workload that is registered');
    }
  }
  return [...problems.errors, ...problems.warnings];
}
