import type { Clock } from '../../../shared/policy/connection.js';
import { nextChangeMs } from '../../../shared/policy/next-change.js';
import { prepareSnapshot } from '../../../shared/policy/prepared/prepared-snapshot.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';

/** The host's clock may be set at any time, so it is read at least this often while a rule depends on it. */
const longestWaitMs = 60_000;

/**
 * Reports when a rule of the current revision begins or ends by the clock, so that open connections are checked again
 * without a new revision. Has one timer, and none while no rule has a `validFrom` or `expiresAt`.
 */
export class RuleClock {
  readonly #clock: Clock;
  readonly #onChange: () => void;
  #snapshot: Snapshot | null = null;
  #judgedAtMs = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(init: { readonly clock: Clock; readonly onChange: () => void }) {
    this.#clock = init.clock;
    this.#onChange = init.onChange;
  }

  /** Call before the connections are checked against this snapshot. */
  use(snapshot: Snapshot): void {
    this.#snapshot = snapshot;
    this.#judgedAtMs = this.#clock.nowMs();
    this.#arm();
  }

  stop(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#snapshot = null;
  }

  #arm(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#snapshot === null || prepareSnapshot(this.#snapshot).changesMs.length === 0) return;
    const nextMs = nextChangeMs(this.#snapshot, this.#judgedAtMs) ?? Number.POSITIVE_INFINITY;
    const waitMs = Math.min(longestWaitMs, Math.max(0, nextMs - this.#clock.nowMs()));
    this.#timer = setTimeout(() => this.#poll(), waitMs);
  }

  /** A clock that was set back makes expired rules valid again: that counts as a change too. */
  #poll(): void {
    if (this.#snapshot === null) return;
    const beforeMs = this.#judgedAtMs;
    this.#judgedAtMs = this.#clock.nowMs();
    const isChanged = nextChangeMs(this.#snapshot, beforeMs) !== nextChangeMs(this.#snapshot, this.#judgedAtMs);
    this.#arm();
    if (isChanged) this.#onChange();
  }
}
