import type { BackpressureTracker, WaitingSums } from '../relay/backpressure-tracker.js';
import type { WorkloadUsage } from '../workload-usage.js';

const pollMs = 500;

/**
 * Publishes to all workers, twice a second, how many bytes of each workload wait in this one. It adds no work for each
 * byte; a workload can exceed its limit by what arrives in half a second.
 */
export class WaitingBytes {
  readonly #backpressure: BackpressureTracker;
  readonly #usage: WorkloadUsage;
  readonly #workerIndex: number;
  readonly #timer: NodeJS.Timeout;
  #published: WaitingSums = { bytesInAll: 0, bySlot: new Map() };

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

  /** In this worker, at the last poll. */
  get bytesInAll(): number {
    return this.#published.bytesInAll;
  }

  /** Called by the timer. */
  poll(): void {
    const before = this.#published.bySlot;
    this.#published = this.#backpressure.waiting();
    const { bySlot } = this.#published;
    for (const slot of before.keys()) if (!bySlot.has(slot)) this.#usage.setWaitingBytes(this.#workerIndex, slot, 0);
    for (const [slot, bytes] of bySlot) this.#usage.setWaitingBytes(this.#workerIndex, slot, bytes);
    this.#usage.setWaitingInAll(this.#workerIndex, { bytes: this.#published.bytesInAll, slots: bySlot.size });
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
