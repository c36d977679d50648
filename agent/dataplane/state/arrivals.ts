import type { WorkloadName } from '../../../shared/routing/names.js';

/** Reading its registry entry, loading its rules and getting its certificate take less, also on a busy host. */
const arrivalMs = 2000;

type Arrival = {
  /** When a connection first found it not ready, in terms of `performance.now()`. */
  readonly sinceMs: number;
  waiting: number;
};

/**
 * The workloads of this node that connections found not to be ready. A new one is for a moment, and the first connections
 * to it wait; what is still not ready after that is not about to be, and connections to it are refused at once.
 */
export class Arrivals {
  readonly #arrivals = new Map<WorkloadName, Arrival>();

  /** Whether connections wait for it: a later one must not be served before them. */
  isAwaited(workload: WorkloadName): boolean {
    return this.#arrivals.size > 0 && (this.#arrivals.get(workload)?.waiting ?? 0) > 0;
  }

  /** A connection begins to wait. Returns until when it may, at most. */
  join(workload: WorkloadName, nowMs: number): number {
    const arrival = this.#arrivals.get(workload) ?? { sinceMs: nowMs, waiting: 0 };
    this.#arrivals.set(workload, arrival);
    arrival.waiting++;
    return arrival.sinceMs + arrivalMs;
  }

  /** It waits no longer, because the workload is ready or for another reason. */
  leave(workload: WorkloadName, isReady: boolean): void {
    const arrival = this.#arrivals.get(workload);
    if (arrival === undefined) return;
    arrival.waiting--;
    if (isReady && arrival.waiting === 0) this.#arrivals.delete(workload);
  }
}
