import type { Scheduler } from '../../thread/scheduler.js';
import type { Held } from './held-workload.js';

/** What a workload lacks by then, the agent before this one is unlikely to have either. */
const longestWaitMs = 5000;

type HeldSince = Pick<Held, 'exemptsOther' | 'sinceMs'>;

/** Which workloads may be listened for while another agent serves them on the same sockets, and in which order afterwards. */
export class HandOver {
  readonly #scheduler: Scheduler;
  readonly #captureWaitMs: number;
  /** As `Scheduler.elapsedMs` counts; null: another agent manages this host. */
  #inChargeSinceMs: number | null = null;

  constructor(init: { readonly scheduler: Scheduler; readonly captureWaitMs: number }) {
    this.#scheduler = init.scheduler;
    this.#captureWaitMs = init.captureWaitMs;
  }

  get isInCharge(): boolean {
    return this.#inChargeSinceMs !== null;
  }

  takeCharge(): void {
    this.#inChargeSinceMs = this.#scheduler.elapsedMs();
  }

  /**
   * Whether its rules are loaded before anything listens: those that are there are the other agent's alone. In charge, for a
   * while: with rules that cannot be loaded, some connections may still be served.
   */
  isLoadedFirst({ exemptsOther, sinceMs }: HeldSince): boolean {
    if (!exemptsOther || this.#inChargeSinceMs === null) return exemptsOther;
    return this.#scheduler.elapsedMs() - Math.max(sinceMs, this.#inChargeSinceMs) < this.#captureWaitMs;
  }

  /** `isServable`: it has all that this agent needs to serve it. Without that, this one accepts nothing for a while. */
  mayListen(held: HeldSince, isServable: boolean): boolean {
    return !this.isLoadedFirst(held) && (this.isInCharge || this.#isDue(held, isServable));
  }

  /** Whether nothing keeps it from being listened for but that this agent is not in charge. */
  waitsForCharge(held: HeldSince, isServable: boolean): boolean {
    return !this.isInCharge && this.isLoadedFirst(held) && this.#isDue(held, isServable);
  }

  #isDue({ sinceMs }: HeldSince, isServable: boolean): boolean {
    return isServable || this.#scheduler.elapsedMs() - sinceMs >= Math.min(this.#captureWaitMs, longestWaitMs);
  }
}
