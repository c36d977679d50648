/** Held until they fire: without it, the signal of a timeout that only `AbortSignal.any` knows may be collected before. */
const pending = new Set<AbortSignal>();

/**
 * Aborts with a `TimeoutError` after `ms` milliseconds. It does not keep the process running. In place of
 * `AbortSignal.timeout`: Node 20 and 22 hold that one, and the signals that `AbortSignal.any` makes of it, only weakly, so that
 * a deadline that was combined with another signal never comes once the garbage was collected.
 */
export function timeoutSignal(ms: number): AbortSignal {
  const signal = AbortSignal.timeout(ms);
  pending.add(signal);
  signal.addEventListener('abort', () => pending.delete(signal), { once: true });
  return signal;
}
