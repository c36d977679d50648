import type { ByteMeter } from '../destination-usage.js';
import type { LimitHit } from '../report/closed-connection.js';

/** A budget of bytes in which a connection has a place, and what is noted when it holds its sender up. */
export type Metered = { readonly meter: ByteMeter; readonly hit: LimitHit };

/** Bounds the bytes of one direction of a connection by the budgets of RateLimits, which it shares with others. */
export class Throttle {
  readonly #budgets: readonly Metered[];
  readonly #onHit: (hit: LimitHit) => void;

  /** The places are the caller's. `onHit` is called each time, also for one of mode audit, which holds nothing up. */
  constructor(init: { readonly budgets: readonly Metered[]; readonly onHit: (hit: LimitHit) => void }) {
    this.#budgets = init.budgets;
    this.#onHit = init.onHit;
  }

  /** Bytes have been read: for how long they are to wait before they go on, in milliseconds. */
  spend(bytes: number): number {
    let longestMs = 0;
    for (const { meter, hit } of this.#budgets) {
      const isTrial = hit.mode === 'audit';
      const waitMs = meter.spend(bytes, isTrial);
      if (waitMs === 0) continue;
      this.#onHit(hit);
      if (!isTrial) longestMs = Math.max(longestMs, waitMs);
    }
    return longestMs;
  }

  /** These were taken, and did not go on. */
  giveBack(bytes: number): void {
    for (const { meter, hit } of this.#budgets) if (hit.mode !== 'audit') meter.spend(-bytes, false);
  }
}
