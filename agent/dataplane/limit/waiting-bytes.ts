import type { BackpressureTracker, WaitingSums } from '../relay/backpressure-tracker.js';
import type { WorkloadUsage } from '../workload-usage.js';

const pollMs = 500;

/**
 * Tells all workers, twice a second, how many bytes of each workload wait in this one. What happens to a byte on its way
 * costs nothing for it; a workload can pass its limit by what comes in half a second.
 */
export class WaitingBytes {
  readonly #backpressure: BackpressureTracker;
  readonly #usage: WorkloadUsage;
  readonly #workerIndex: number;
  readonly #timer: NodeJS.Timeout;
  #told: WaitingSums = { bytesInAll: 0, bySlot: new Map() };

  constructor(init: {
    readonly backpressure: BackpressureTracker;
    readonly usage: WorkloadUsage;
    readonly workerIndex: number;
  }) {
    this.#backpressure = init.backpressure;
    this.#usage = init.usage;
    this.#workerIndex = init.workerIndex;
    this.#timer = setInterval(() => this.poll(), pollMs);
    this.#timer.unref();
  }

  /** In this worker, at the last look. */
  get bytesInAll(): number {
    return this.#told.bytesInAll;
  }

  /** What the timer calls. */
  poll(): void {
    const before = this.#told.bySlot;
    this.#told = this.#backpressure.waiting();
    const { bySlot } = this.#told;
    for (const slot of before.keys()) if (!bySlot.has(slot)) this.#usage.setWaitingBytes(this.#workerIndex, slot, 0);
    for (const [slot, bytes] of bySlot) this.#usage.setWaitingBytes(this.#workerIndex, slot, bytes);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
