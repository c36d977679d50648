import { setImmediate } from 'node:timers/promises';
import { CulvertError } from './errors.js';

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

/**
 * Runs a computation to its end and yields to the event loop between its steps. Throws what it throws, CulvertError
 * `TOO_MUCH_WORK` when its steps together have taken `budgetMs`, and the reason of `signal` at the next turn after it aborts.
 */
export async function inTurns<T>(
  steps: Iterator<void, T>,
  {
    budgetMs = Number.POSITIVE_INFINITY,
    signal,
  }: { readonly budgetMs?: number; readonly signal?: AbortSignal | undefined } = {},
): Promise<T> {
  let usedMs = 0;
  let startedAtMs = performance.now();
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
    const turn = performance.now() - startedAtMs;
    if (turn < turnMs) continue;
    usedMs += turn;
    if (usedMs > budgetMs) throw tooMuchWork(budgetMs);
    await setImmediate();
    signal?.throwIfAborted();
    startedAtMs = performance.now();
  }
}

function tooMuchWork(budgetMs: number): CulvertError {
  return new CulvertError({
    code: 'TOO_MUCH_WORK',
    message: `checking the change took more than ${budgetMs / 1000} s; nothing was changed`,
    hint: 'apply it in several parts, and look for rules of one priority that are about the same workloads',
  });
}

/** Runs a computation to its end without a pause. Throws what it throws. */
export function atOnce<T>(steps: Iterator<void, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
