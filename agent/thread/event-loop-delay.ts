import { monitorEventLoopDelay, performance, type EventLoopUtilization } from 'node:perf_hooks';

/**
 * Each sample wakes the thread. Sampling every 10 ms would cost 0.6 % of a core; this costs 0.1 %, and only under load.
 */
const resolutionMs = 50;
const windowMs = 1000;
/** A loop that was busy for less than this in a window was never late by more. */
const busyMs = 50;

/**
 * Measures how late this thread's event loop runs. An idle loop is sampled by one timer a second, which sees a single
 * delay only if it falls on that timer. A busy loop is sampled every 50 ms: it sees every delay of 50 ms and more, and
 * shorter ones that fall on a sample. `stop` ends the measurement.
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

  /** 99th percentile since the last call, in milliseconds; 0 if there was no sample. */
  takeP99Ms(): number {
    // Node records the time between two samples, which equals the resolution if nothing was late.
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
