import { setImmediate } from 'node:timers/promises';

/*
 * Long computations are generators that yield where other work may have its turn. They follow one convention:
 *
 * - The generator is named with a participle: `compilingRules`. It yields nothing, and returns the result. A longer
 *   computation runs it as one of its parts with `yield*`.
 * - Callers that share their event loop with other work use `await inTurns(compilingRules(…))`.
 * - Its plain twin has the verb of the same name, `compileRules`, stands directly above it in the same file, and does
 *   nothing but call `atOnce`. It exists only where something needs the result at once.
 */

/** Longest delay of other work, in milliseconds, if no single step takes longer. */
const turnMs = 10;

/** Runs a computation to its end and yields to the event loop between its steps. Throws what it throws. */
export async function inTurns<T>(steps: Iterator<void, T>): Promise<T> {
  let startedAtMs = performance.now();
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    if (performance.now() - startedAtMs < turnMs) continue;
    await setImmediate();
    startedAtMs = performance.now();
  }
}

/** Runs a computation to its end without a pause. Throws what it throws. */
export function atOnce<T>(steps: Iterator<void, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
