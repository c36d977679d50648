import { setImmediate } from 'node:timers/promises';

/** How long others wait at most, in milliseconds, when no single step takes longer. */
const turnMs = 10;

/** Does the steps of a long work one after another, and lets everything else have its turn in between. */
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

/** Does them all at once. */
export function atOnce<T>(steps: Iterator<void, T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done === true) return step.value;
  }
}
