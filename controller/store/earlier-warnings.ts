import { validatingSet, type ValidateOptions } from '../compile/check/validate-set.js';
import { formatProblem, type Problem } from '../resources/kinds/problem.js';
import type { Service } from '../resources/kinds/service.js';
import { formatResourceId, type ResourceId } from '../resources/kinds/resource-key.js';
import { resourcesOf, type CommittedState } from '../release/committed-state.js';

/**
 * Marks the warnings that a change has nothing to do with: about documents that it does not contain, and found in the state
 * before it too. In steps; checks the whole set a second time only when there are warnings about other documents.
 */
export function* markingEarlier(
  warnings: readonly Problem[],
  init: Required<ValidateOptions> & {
    readonly before: CommittedState;
    readonly services: readonly Service[];
    readonly changed: readonly ResourceId[];
  },
): Generator<void, readonly Problem[]> {
  const { before, services, changed, ...options } = init;
  const own = new Set<string>(changed.map(formatResourceId));
  const isAboutOther = ({ resource, document }: Problem): boolean =>
    document === null && resource !== null && !own.has(resource);
  if (!warnings.some(isAboutOther)) return warnings;
  const present = yield* validatingSet([...resourcesOf(before), ...services], new Map(), options);
  const known = new Set(present.map(formatProblem));
  return warnings.map((problem) =>
    isAboutOther(problem) && known.has(formatProblem(problem)) ? { ...problem, isEarlier: true } : problem,
  );
}
