import { longestTimerMs } from '../../thread/scheduler.js';
import { formatRuleRef, type Decision, type RuleRef } from '../../../shared/policy/connection.js';

export type GraceKind = 'draining' | 'kept';

/** How many connections are in a grace period, by its kind. Each period counts itself. */
export type GraceCounts = Record<GraceKind, number>;

/**
 * How long an open connection may continue that the rules deny: `onChange` of the denying rule, `drain` or `keep`. There is
 * one for each such connection; call {@link lift} when it is allowed again and when it has ended.
 */
export class GracePeriod {
  readonly #onExpired: (decision: Decision, revision: number) => void;
  readonly #counts: GraceCounts;
  #kind: GraceKind | null = null;
  #decision: Decision | null = null;
  #revision = 0;
  #rule: RuleRef | null = null;
  #sinceMs = 0;
  #endsMs = Number.POSITIVE_INFINITY;
  #timer: NodeJS.Timeout | null = null;

  /** `onExpired`: a drain is over; gets the last decision that denied the connection. */
  constructor(init: {
    readonly counts: GraceCounts;
    readonly onExpired: (decision: Decision, revision: number) => void;
  }) {
    this.#counts = init.counts;
    this.#onExpired = init.onExpired;
  }

  /** Null while the rules allow the connection. */
  get kind(): GraceKind | null {
    return this.#kind;
  }

  /** The rule that denies the connection; null while none does. */
  get rule(): RuleRef | null {
    return this.#rule;
  }

  /**
   * This decision denies the connection. Returns false when no time is left. Neither another check nor another rule makes a
   * drain that has begun longer; a longer grace of the same rule does, counted from its beginning.
   */
  grant(decision: Decision, revision: number): boolean {
    const { onChange } = decision;
    const wasDraining = this.#kind === 'draining';
    const { rule } = decision;
    // Each revision has references of its own.
    const isSameRule = this.#rule !== null && formatRuleRef(rule) === formatRuleRef(this.#rule);
    this.#decision = decision;
    this.#revision = revision;
    this.#rule = rule;
    if (onChange.kind === 'terminate') return false;
    if (onChange.kind === 'keep') {
      this.#become('kept');
      this.#endsMs = Number.POSITIVE_INFINITY;
      this.#stopTimer();
      return true;
    }
    const nowMs = performance.now();
    if (!wasDraining) this.#sinceMs = nowMs;
    this.#become('draining');
    this.#endsMs =
      isSameRule || !wasDraining ? this.#sinceMs + onChange.graceMs : Math.min(this.#endsMs, nowMs + onChange.graceMs);
    if (this.#endsMs <= nowMs) return false;
    this.#arm();
    return true;
  }

  lift(): void {
    this.#become(null);
    this.#decision = null;
    this.#rule = null;
    this.#endsMs = Number.POSITIVE_INFINITY;
    this.#stopTimer();
  }

  #become(kind: GraceKind | null): void {
    if (this.#kind !== null) this.#counts[this.#kind]--;
    if (kind !== null) this.#counts[kind]++;
    this.#kind = kind;
  }

  #arm(): void {
    this.#stopTimer();
    // A longer wait takes several timers.
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
