import type { IpAddress } from '../../../shared/address.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

/** Reading its registry entry, loading its rules and getting its certificate take less, also on a busy host. */
const arrivalMs = 2000;
/**
 * What has waited in vain is forgotten after this time: its address may be that of a new workload by then, and the first
 * connections to that are to wait. One that is not to come costs a wait as often.
 */
const forgottenAfterMs = 30_000;
/** Between two looks at whether a workload has become ready. */
const lookMs = 20;

/** What a connection waits for: a workload, or the one that has an address. */
export type Awaited = WorkloadName | IpAddress;

/** A connection that waits for a workload. */
export type Waiter = { readonly isReady: () => boolean; readonly goOn: () => void };

type Arrival = {
  /** When a connection first found it not ready, in terms of `performance.now()`. */
  readonly sinceMs: number;
  /** In the order in which they came. */
  readonly waiting: Set<Waiter>;
  timer: NodeJS.Timeout | null;
};

/**
 * The workloads of this node that connections found not to be ready. A new one is for a moment, and the first connections
 * to it wait; what is still not ready after that is not about to be, and connections to it are refused at once, until it
 * was ready or half a minute is over. One look at a time for each workload lets its connections go on, in the order in which
 * they came.
 */
export class Arrivals {
  readonly #arrivals = new Map<Awaited, Arrival>();

  /** Number of workloads and addresses that are known. */
  get size(): number {
    return this.#arrivals.size;
  }

  /** Whether connections wait for it: a later one must not be served before them. */
  isAwaited(workload: Awaited): boolean {
    return this.#arrivals.size > 0 && (this.#arrivals.get(workload)?.waiting.size ?? 0) > 0;
  }

  /** A connection found it ready while none waited: should it leave and come again, connections wait again. */
  wasReady(workload: Awaited): void {
    if (this.#arrivals.size > 0 && !this.isAwaited(workload)) this.#arrivals.delete(workload);
  }

  /** A connection begins to wait. Returns false if it may not, because others have waited in vain. */
  join(workload: Awaited, waiter: Waiter): boolean {
    this.#forgetOld();
    const arrival = this.#arrivals.get(workload) ?? {
      sinceMs: performance.now(),
      waiting: new Set<Waiter>(),
      timer: null,
    };
    if (performance.now() >= arrival.sinceMs + arrivalMs && arrival.waiting.size === 0) return false;
    this.#arrivals.set(workload, arrival);
    arrival.waiting.add(waiter);
    arrival.timer ??= setTimeout(() => this.#look(workload, arrival), lookMs);
    return true;
  }

  /** It waits no longer, for a reason of its own. */
  leave(workload: Awaited, waiter: Waiter): void {
    this.#arrivals.get(workload)?.waiting.delete(waiter);
  }

  /** The oldest are first. */
  #forgetOld(): void {
    const sinceMs = performance.now() - forgottenAfterMs;
    for (const [awaited, arrival] of this.#arrivals) {
      if (arrival.sinceMs > sinceMs || arrival.waiting.size > 0) return;
      this.#arrivals.delete(awaited);
    }
  }

  #look(workload: Awaited, arrival: Arrival): void {
    arrival.timer = null;
    const isOver = performance.now() >= arrival.sinceMs + arrivalMs;
    const { waiting } = arrival;
    let hasBeenReady = false;
    const leaving = [...waiting].filter(({ isReady }) => {
      const isNow = isReady();
      hasBeenReady ||= isNow;
      return isNow || isOver;
    });
    for (const waiter of leaving) waiting.delete(waiter);
    if (waiting.size > 0) arrival.timer = setTimeout(() => this.#look(workload, arrival), lookMs);
    else if (hasBeenReady) this.#arrivals.delete(workload);
    for (const waiter of leaving) waiter.goOn();
  }
}
