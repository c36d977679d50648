/** The longest delay of `setTimeout`, in milliseconds; a longer one fires at once. */
export const longestTimerMs = 2 ** 31 - 1;

/** The control thread's clock, timers and randomness; injected, so that tests can control them. */
export type Scheduler = {
  /** Milliseconds since the epoch. */
  nowMs(): number;
  /** Milliseconds since some moment. Setting the clock does not change it. */
  elapsedMs(): number;
  /** Calls back once after `delayMs`. The returned function cancels; calling it late does nothing. */
  after(delayMs: number, callback: () => void): () => void;
  /** 0 ≤ value < 1. */
  random(): number;
};

export const systemScheduler: Scheduler = {
  nowMs: () => Date.now(),
  elapsedMs: () => performance.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(longestTimerMs, Math.max(0, delayMs)));
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
};

/**
 * Code that waits for a time of day polls the clock at least this often: the clock may be set, and timers do not run
 * while a host is suspended or its virtual machine is paused.
 */
export const longestWaitMs = 60_000;

/** Time synchronisation takes smaller steps back in normal operation. */
const toleratedStepMs = 60_000;

/** Whether the clock was set back to before a past event, so that times derived from that event are no longer valid. */
export function hasGoneBack(nowMs: number, happenedAtMs: number): boolean {
  return happenedAtMs - nowMs > toleratedStepMs;
}

/**
 * How long to wait before attempt number `failures + 1`: doubles from `firstMs` to `maxMs`. The second half of each
 * wait is random, so that many agents that lost the same controller do not return in step.
 */
export function backoffMs(o: { failures: number; firstMs: number; maxMs: number; random: number }): number {
  const full = Math.min(o.maxMs, o.firstMs * 2 ** Math.min(30, Math.max(0, o.failures - 1)));
  return full / 2 + (full / 2) * o.random;
}
