import { monitorEventLoopDelay, performance, type EventLoopUtilization } from 'node:perf_hooks';

/** Each look wakes the thread: every 10 ms would be 0.6 % of a core, this is 0.1 %, and only while there is work. */
const resolutionMs = 50;
const windowMs = 1000;
/** A loop that worked for less in a window was never late by more. */
const busyMs = 50;

/**
 * How late the event loop of this thread runs. While it is idle one timer a second tells, which sees a lone delay that it
 * falls into; once the loop works, every delay of 50 ms and more is seen, and of shorter ones those that fall on a look.
 * `stop` ends the measuring.
 */
export class EventLoopDelay {
  readonly #histogram = monitorEventLoopDelay({ resolution: resolutionMs });
  readonly #timer: NodeJS.Timeout;
  #utilization: EventLoopUtilization = performance.eventLoopUtilization();
  #dueAtMs = performance.now() + windowMs;
  #isClose = false;
  #latestMs = 0;

  constructor() {
    this.#timer = setInterval(() => this.#poll(), windowMs);
    this.#timer.unref();
  }

  /** 99th percentile since the last call, milliseconds; 0 when there was no look yet. */
  takeP99Ms(): number {
    // Node records the time between two looks, which is the resolution when nothing was late.
    const p99Ms = this.#histogram.percentile(99) / 1e6 - resolutionMs;
    const latestMs = this.#latestMs;
    this.#histogram.reset();
    this.#latestMs = 0;
    return Math.max(0, latestMs, Number.isFinite(p99Ms) ? p99Ms : 0);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#histogram.disable();
  }

  #poll(): void {
    const nowMs = performance.now();
    this.#latestMs = Math.max(this.#latestMs, nowMs - this.#dueAtMs);
    this.#dueAtMs = nowMs + windowMs;
    const { active } = performance.eventLoopUtilization(this.#utilization);
    this.#utilization = performance.eventLoopUtilization();
    const isBusy = active >= busyMs;
    if (isBusy === this.#isClose) return;
    this.#isClose = isBusy;
    if (isBusy) this.#histogram.enable();
    else this.#histogram.disable();
  }
}
