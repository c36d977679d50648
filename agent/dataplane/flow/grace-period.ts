import { formatRuleRef, type Decision } from '../../../shared/policy/connection.js';

/** A timer cannot run longer than 2^31 ms; a longer wait takes several. */
const longestTimerMs = 0x4000_0000;

export type GraceKind = 'draining' | 'kept';

/**
 * How long an open connection that the rules deny may live on: the `onChange` of the rule that denies it, a `drain` or
 * a `keep`. One for each connection; {@link lift} when it is allowed again, and when it has ended.
 */
export class GracePeriod {
  readonly #onExpired: (decision: Decision, revision: number) => void;
  #kind: GraceKind | null = null;
  #decision: Decision | null = null;
  #revision = 0;
  #rule = '';
  #sinceMs = 0;
  #endsMs = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | null = null;

  /** `onExpired`: the grace of a drain is over; gets the last decision that denied the connection. */
  constructor(init: { readonly onExpired: (decision: Decision, revision: number) => void }) {
    this.#onExpired = init.onExpired;
  }

  /** Null: the rules allow the connection. */
  get kind(): GraceKind | null {
    return this.#kind;
  }

  /** `SegmentationRule/name` of what denies it; empty when nothing does. */
  get rule(): string {
    return this.#rule;
  }

  /**
   * The connection is denied, by this decision. Returns false when it has no time left. A drain that has begun is not
   * prolonged by being judged again, nor by another rule; a longer grace of the same rule counts, from when it began.
   */
  grant(decision: Decision, revision: number): boolean {
    const { onChange } = decision;
    const wasDraining = this.#kind === 'draining';
    const rule = formatRuleRef(decision.rule);
    const isSameRule = rule === this.#rule;
    this.#decision = decision;
    this.#revision = revision;
    this.#rule = rule;
    if (onChange.kind === 'terminate') return false;
    if (onChange.kind === 'keep') {
      this.#kind = 'kept';
      this.#endsMs = Number.POSITIVE_INFINITY;
      this.#stopTimer();
      return true;
    }
    const nowMs = performance.now();
    if (!wasDraining) this.#sinceMs = nowMs;
    this.#kind = 'draining';
    this.#endsMs =
      isSameRule || !wasDraining ? this.#sinceMs + onChange.graceMs : Math.min(this.#endsMs, nowMs + onChange.graceMs);
    if (this.#endsMs <= nowMs) return false;
    this.#arm();
    return true;
  }

  lift(): void {
    this.#kind = null;
    this.#decision = null;
    this.#rule = '';
    this.#endsMs = Number.POSITIVE_INFINITY;
    this.#stopTimer();
  }

  #arm(): void {
    this.#stopTimer();
    const leftMs = Math.min(longestTimerMs, Math.max(0, this.#endsMs - performance.now()));
    this.#timer = setTimeout(() => this.#onTimer(), Math.ceil(leftMs));
  }

  #onTimer(): void {
    if (performance.now() < this.#endsMs) {
      this.#arm();
      return;
    }
    if (this.#decision !== null) this.#onExpired(this.#decision, this.#revision);
  }

  #stopTimer(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
  }
}
