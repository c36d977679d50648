import type { Reason } from '../../../shared/reasons.js';

/** What a connection tells of its endpoint. `unknown`: nothing, for example because a rule refused it. */
export type Verdict = 'worked' | 'failed' | 'unknown';

/** The place of one connection at its endpoint. Its owner ends it once. */
export interface HealthUse {
  connected(): void;
  /** `reason`: why it failed. Returns whether its endpoint has failed too often, and stays as no more may be ejected. */
  end(verdict: Verdict, reason: Reason): boolean;
}

/** A trial that stays connected this long without a reset has worked, although no byte came. */
const silentTrialMs = 5000;

/** Notices that a connection has worked before it ends. `nowMs`: a clock that is never set back. */
export class WatchedUse implements HealthUse {
  readonly #nowMs: () => number;
  readonly #onConnected: () => void;
  readonly #onEnd: (verdict: Verdict, reason: Reason) => boolean;
  readonly #hasAnswered: () => boolean;
  #connectedAtMs: number | null = null;
  isOver = false;

  constructor(init: {
    readonly nowMs: () => number;
    readonly hasAnswered: () => boolean;
    readonly onConnected: () => void;
    readonly onEnd: (verdict: Verdict, reason: Reason) => boolean;
  }) {
    this.#nowMs = init.nowMs;
    this.#hasAnswered = init.hasAnswered;
    this.#onConnected = init.onConnected;
    this.#onEnd = init.onEnd;
  }

  connected(): void {
    this.#connectedAtMs = this.#nowMs();
    this.#onConnected();
  }

  hasWorked(): boolean {
    if (this.isOver || this.#connectedAtMs === null) return false;
    return this.#hasAnswered() || this.#nowMs() - this.#connectedAtMs >= silentTrialMs;
  }

  end(verdict: Verdict, reason: Reason): boolean {
    if (this.isOver) return false;
    this.isOver = true;
    return this.#onEnd(verdict, reason);
  }
}
