import { CulvertError } from '../../shared/errors.js';
import { patientMs } from './patience.js';

/**
 * Asks again and again until the answer is not undefined, and returns it. Throws `LAB_DEADLINE`, with what was waited for
 * and the last failure, after `deadlineMs`, or longer on a busy machine. For states that no event tells of.
 */
export async function waitUntil<T>(
  what: string,
  ask: () => Promise<T | undefined> | T | undefined,
  deadlineMs = 30_000,
): Promise<T> {
  const startedAtMs = performance.now();
  let lastFailure: unknown;
  for (;;) {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
      lastFailure = undefined;
    } catch (error) {
      lastFailure = error;
    }
    if (performance.now() - startedAtMs > patientMs(deadlineMs)) {
      throw new CulvertError({
        code: 'LAB_DEADLINE',
        message: `Not within ${deadlineMs} ms: ${what}.`,
        cause: lastFailure,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
