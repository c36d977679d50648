import { CulvertError } from '../../shared/errors.js';
import { patientMs } from './patience.js';

const lasting: ReadonlySet<string> = new Set([
  'LAB_PROCESS_ENDED',
  'REQUIREMENT_MISSING',
  'COMMAND_NOT_STARTED',
  'NATIVE_ADDON',
]);

/** A question costs the one who asks and the one who answers, so it is repeated less and less often. */
const firstPauseMs = 20;
const longestPauseMs = 150;

/**
 * Asks again and again until the answer is not undefined, and returns it. Throws `LAB_DEADLINE`, with what was waited for
 * and the last failure, after `deadlineMs`, or longer on a busy machine. Throws at once what no waiting mends: a program that
 * has ended (`LabProcess.requireRunning`), or one that is missing. For states that no event tells of.
 */
export async function waitUntil<T>(
  what: string,
  ask: () => Promise<T | undefined> | T | undefined,
  deadlineMs = 30_000,
): Promise<T> {
  const startedAtMs = performance.now();
  let lastFailure: unknown;
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(longestPauseMs, pauseMs * 1.2)) {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
      lastFailure = undefined;
    } catch (error) {
      if (error instanceof CulvertError && lasting.has(error.code)) throw error;
      lastFailure = error;
    }
    if (performance.now() - startedAtMs > patientMs(deadlineMs)) {
      throw new CulvertError({
        code: 'LAB_DEADLINE',
        message: `Not within ${deadlineMs} ms: ${what}.${lastFailure === undefined ? '' : ` At last: ${textOf(lastFailure)}`}`,
        cause: lastFailure,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
