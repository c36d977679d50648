import type { HeldBack, WaitingSums } from '../relay/held-back.js';
import type { WorkloadUsage } from '../workload-usage.js';

const lookMs = 500;

/**
 * Tells all workers, twice a second, how many bytes of each workload wait in this one. What happens to a byte on its way
 * costs nothing for it; a workload can pass its limit by what comes in half a second.
 */
export class WaitingBytes {
  readonly #heldBack: HeldBack;
  readonly #usage: WorkloadUsage;
  readonly #workerIndex: number;
  readonly #timer: NodeJS.Timeout;
  #told: WaitingSums = { bytesInAll: 0, bySlot: new Map() };

  constructor(init: { readonly heldBack: HeldBack; readonly usage: WorkloadUsage; readonly workerIndex: number }) {
    this.#heldBack = init.heldBack;
    this.#usage = init.usage;
    this.#workerIndex = init.workerIndex;
    this.#timer = setInterval(() => this.look(), lookMs);
    this.#timer.unref();
  }

  /** In this worker, at the last look. */
  get bytesInAll(): number {
    return this.#told.bytesInAll;
  }

  /** What the timer calls. */
  look(): void {
    const before = this.#told.bySlot;
    this.#told = this.#heldBack.waiting();
    const { bySlot } = this.#told;
    for (const slot of before.keys()) if (!bySlot.has(slot)) this.#usage.setWaitingBytes(this.#workerIndex, slot, 0);
    for (const [slot, bytes] of bySlot) this.#usage.setWaitingBytes(this.#workerIndex, slot, bytes);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
