/** The longest delay of `setTimeout`, in milliseconds; a longer one fires at once. */
export const longestTimerMs = 2 ** 31 - 1;

/** Time, as the control thread sees it; injected, so that tests can move it. */
export type Scheduler = {
  /** Milliseconds since the epoch. */
  nowMs(): number;
  /** Calls back once after `delayMs`. The returned function cancels; calling it late does nothing. */
  after(delayMs: number, callback: () => void): () => void;
  /** 0 ≤ value < 1. */
  random(): number;
};

export const systemScheduler: Scheduler = {
  nowMs: () => Date.now(),
  after(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(longestTimerMs, Math.max(0, delayMs)));
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
};

/**
 * Whoever waits for a time of day looks at the clock this often at least: somebody may set it, and the timers of a host
 * that slept (suspended, or a virtual machine that was paused) have not run meanwhile.
 */
export const longestWaitMs = 60_000;

/** Smaller steps back are how a clock is kept right. */
const toleratedStepMs = 60_000;

/** Whether the clock was set back to before something that has happened: what was worked out from it then is worth nothing. */
export function hasGoneBack(nowMs: number, happenedAtMs: number): boolean {
  return happenedAtMs - nowMs > toleratedStepMs;
}

/**
 * How long to wait before attempt number `failures + 1`: doubles from `firstMs` to `maxMs`, and the later half of it is
 * random, so that many agents that lost the same controller do not come back in step.
 */
export function backoffMs(o: { failures: number; firstMs: number; maxMs: number; random: number }): number {
  const full = Math.min(o.maxMs, o.firstMs * 2 ** Math.min(30, Math.max(0, o.failures - 1)));
  return full / 2 + (full / 2) * o.random;
}
