import type { OutlierPolicy } from '../../../shared/policy/traffic-documents.js';

/** One connection, as the reference sees it. */
export type NaiveUse = {
  readonly endpoint: number;
  connectedAtMs: number | null;
  hasAnswered: boolean;
  verdict: 'worked' | 'failed' | 'unknown' | null;
  /** It has ended a row of failures. */
  isCounted: boolean;
};

type State = {
  failures: number;
  ejections: number;
  untilMs: number | null;
  wholeSinceMs: number;
  trial: NaiveUse | null;
  latest: NaiveUse | null;
};

/**
 * The rules of outlier detection written down plainly, for one destination without chance: all endpoints are looked at for each
 * question, and nothing is counted or indexed.
 */
export class NaiveHealth {
  readonly #policy: OutlierPolicy;
  readonly #nowMs: () => number;
  readonly #states: State[];

  constructor(init: { readonly policy: OutlierPolicy; readonly endpoints: number; readonly nowMs: () => number }) {
    this.#policy = init.policy;
    this.#nowMs = init.nowMs;
    this.#states = Array.from({ length: init.endpoints }, () => ({
      failures: 0,
      ejections: 0,
      untilMs: null,
      wholeSinceMs: 0,
      trial: null,
      latest: null,
    }));
  }

  usable(): [number[], boolean] {
    for (const state of this.#states) this.#settle(state);
    const all = this.#states.map((_, index) => index);
    const left = all.filter((index) => this.#mayBegin(this.#states[index]!));
    const isPanic = (100 * left.length) / all.length < this.#policy.minHealthPercent && left.length < all.length;
    return isPanic ? [all, true] : [left, false];
  }

  begin(endpoint: number, isPanic: boolean): NaiveUse | null {
    const state = this.#states[endpoint]!;
    if (!isPanic && !this.#mayBegin(state)) return null;
    const use: NaiveUse = { endpoint, connectedAtMs: null, hasAnswered: false, verdict: null, isCounted: false };
    if (state.untilMs !== null && this.#mayBegin(state)) state.trial = use;
    return use;
  }

  connected(use: NaiveUse): void {
    use.connectedAtMs = this.#nowMs();
    const state = this.#states[use.endpoint]!;
    if (state.untilMs !== null) return;
    this.#countLatest(state);
    state.latest = use;
  }

  end(use: NaiveUse, verdict: 'worked' | 'failed' | 'unknown'): void {
    use.verdict = verdict;
    const state = this.#states[use.endpoint]!;
    if (state.trial === use) {
      state.trial = null;
      if (verdict === 'worked') this.#makeWhole(state);
      if (verdict === 'failed') this.#eject(state);
      return;
    }
    if (state.untilMs !== null) return;
    use.isCounted = true;
    if (verdict === 'worked') state.failures = 0;
    if (verdict !== 'failed') return;
    this.#countLatest(state);
    state.failures += 1;
    const { failures, maxEjectionPercent } = this.#policy;
    const ejected = this.#states.filter(({ untilMs }) => untilMs !== null).length;
    const allowed =
      maxEjectionPercent === 0 ? 0 : Math.max(1, Math.floor((this.#states.length * maxEjectionPercent) / 100));
    if (state.failures >= failures && ejected + 1 <= allowed) this.#eject(state);
  }

  /** Position and count of those that are ejected. */
  ejected(): [number, number][] {
    for (const state of this.#states) this.#settle(state);
    return this.#states.flatMap(({ untilMs, ejections }, index): [number, number][] =>
      untilMs === null ? [] : [[index, ejections]],
    );
  }

  #countLatest(state: State): void {
    const { latest } = state;
    if (latest === null || latest.isCounted || !this.#hasWorked(latest)) return;
    latest.isCounted = true;
    state.failures = 0;
  }

  #settle(state: State): void {
    if (state.trial !== null && this.#hasWorked(state.trial)) this.#makeWhole(state);
  }

  #mayBegin({ untilMs, trial }: State): boolean {
    return untilMs === null || (this.#nowMs() >= untilMs && trial === null);
  }

  #hasWorked({ verdict, connectedAtMs, hasAnswered }: NaiveUse): boolean {
    if (verdict !== null) return verdict === 'worked';
    return connectedAtMs !== null && (hasAnswered || this.#nowMs() >= connectedAtMs + 5000);
  }

  #makeWhole(state: State): void {
    Object.assign(state, { untilMs: null, trial: null, latest: null, failures: 0, wholeSinceMs: this.#nowMs() });
  }

  #eject(state: State): void {
    const { baseEjectionMs, decayMs } = this.#policy;
    const healthySteps = state.untilMs === null ? Math.floor((this.#nowMs() - state.wholeSinceMs) / decayMs) : 0;
    state.ejections = Math.max(0, state.ejections - healthySteps) + 1;
    const penaltyMs = Math.max(baseEjectionMs, Math.min(300_000, baseEjectionMs * state.ejections));
    Object.assign(state, { untilMs: this.#nowMs() + penaltyMs, failures: 0, latest: null });
  }
}
