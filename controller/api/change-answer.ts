import { z } from 'zod';
import type { Problem } from '../resources/kinds/problem.js';
import type { ChangeOutcome } from '../store/change-outcome.js';
import type { ProblemsAnswer } from './api-types.js';
import type { ApiAnswer } from './router.js';

/** A person's comment on a change; empty: none. */
export const changeMessage = z.string().max(1024, 'must have 1024 characters at most').default('');

export type ChangeResult = 'applied' | 'unchanged' | 'refused' | 'failed';

/** Runs a change and reports its result to `onChange`. A dry run is not reported. */
export async function countChange<Outcome extends ChangeOutcome | undefined>(
  onChange: (result: ChangeResult) => void,
  dryRun: boolean,
  change: () => Promise<Outcome>,
): Promise<Outcome> {
  let result: ChangeResult = 'failed';
  try {
    const outcome = await change();
    if (outcome?.ok !== true) result = 'refused';
    else result = outcome.changes.every(({ change }) => change === 'unchanged') ? 'unchanged' : 'applied';
    return outcome;
  } finally {
    if (!dryRun) onChange(result);
  }
}

/** Status 422: nothing was changed. */
export function toRefusal(problems: readonly Problem[]): ApiAnswer {
  const count = problems.filter((problem) => problem.severity === 'error').length;
  const body: ProblemsAnswer = {
    code: 'INVALID_RESOURCES',
    message: `${count === 1 ? 'a problem was' : `${count} problems were`} found; nothing was changed`,
    hint: 'fix the problems and apply again',
    problems,
  };
  return { status: 422, body };
}
