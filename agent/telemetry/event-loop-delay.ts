import { monitorEventLoopDelay } from 'node:perf_hooks';

/** Each look wakes the thread: every 10 ms would be 0.6 % of a core on an idle agent, this is 0.1 %. */
const resolutionMs = 50;

/**
 * How late the event loop of this thread runs. It sees every delay of 50 ms and more, and of shorter ones those that fall
 * on one of its looks. `stop` ends the measuring.
 */
export class EventLoopDelay {
  readonly #histogram = monitorEventLoopDelay({ resolution: resolutionMs });

  constructor() {
    this.#histogram.enable();
  }

  /** 99th percentile since the last call, milliseconds; 0 when there was no look yet. */
  takeP99Ms(): number {
    // Node records the time between two looks, which is the resolution when nothing was late.
    const p99Ms = this.#histogram.percentile(99) / 1e6 - resolutionMs;
    this.#histogram.reset();
    return Number.isFinite(p99Ms) ? Math.max(0, p99Ms) : 0;
  }

  stop(): void {
    this.#histogram.disable();
  }
}
