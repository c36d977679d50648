import { evaluate } from '../../../shared/policy/evaluate.js';
import type { Clock, Connection, Decision } from '../../../shared/policy/connection.js';
import { formatRuleRef } from '../../../shared/policy/connection.js';
import type { Reason } from '../../../shared/reasons.js';
import type { ConnectionRecord, Ending } from '../connection/connection-record.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import { ConnectionCut } from '../connection/connection-cut.js';
import { TerminationSignal } from '../connection/termination-signal.js';
import type { WorkerState } from '../state/worker-state.js';
import { GracePeriod } from './grace-period.js';

/** Who is at both ends, as the current state has it, or why that can no longer be said. */
export type Facts =
  | { readonly connection: Connection }
  /** `whileOpen`: the reason for cutting a connection that was open already. */
  | { readonly refusal: Ending; readonly whileOpen: Reason };

/** Builds the facts anew from the state; called once before the dial and again after every change. */
export type FactsSource = (state: WorkerState) => Facts;

const noGrace: Pick<GracePeriod, 'kind' | 'rule'> = { kind: null, rule: '' };

/**
 * A connection from accept to record. Holds what is needed to judge it again, and the one signal that ends it, in
 * whatever step it is.
 */
export class TrackedConnection {
  readonly record: ConnectionRecord;
  /** The workloads of this node at its ends: one, or two on the local path. */
  readonly workloads: HostedWorkload[];
  readonly signal = new TerminationSignal();
  readonly #clock: Clock;
  #facts: FactsSource | null = null;
  /** Most connections never need one. */
  #grace: GracePeriod | null = null;

  constructor(init: { readonly record: ConnectionRecord; readonly workload: HostedWorkload; readonly clock: Clock }) {
    this.record = init.record;
    this.workloads = [init.workload];
    this.#clock = init.clock;
  }

  /** Whether it lives on though the rules deny it, and by which rule. */
  get grace(): Pick<GracePeriod, 'kind' | 'rule'> {
    return this.#grace ?? noGrace;
  }

  /** It is allowed again, or has ended. */
  liftReprieve(): void {
    this.#grace?.lift();
  }

  /**
   * Decides by the rules now, and from here on after every change of the state. Returns null when the connection may
   * go on. Must be called before anything is sent to the destination.
   */
  authorize(state: WorkerState, source: FactsSource): Ending | null {
    this.#facts = source;
    this.liftReprieve();
    const facts = source(state);
    if (!('connection' in facts)) {
      this.#noteRefusal(facts.refusal, state);
      return facts.refusal;
    }
    if (state.snapshot === null) return { reason: 'NO_RULES_YET', detail: 'no rules yet' };
    const decision = evaluate(state.snapshot, facts.connection, this.#clock);
    this.record.decided(decision, state.snapshot.revision);
    if (decision.verdict === 'allow') return null;
    return { reason: decision.reason, rule: formatRuleRef(decision.rule), detail: '' };
  }

  /**
   * Judges an admitted connection by the current state. When it would not be admitted any more, `onChange` of the rule
   * that denies it says what becomes of it; who its ends are is never a matter of rules, so that cuts it at once.
   */
  recheck(state: WorkerState): void {
    if (this.#facts === null || this.signal.cut !== null || state.snapshot === null) return;
    const facts = this.#facts(state);
    if (!('connection' in facts)) {
      const { detail, rule } = facts.refusal;
      this.#noteRefusal(facts.refusal, state);
      this.cut(new ConnectionCut({ reason: facts.whileOpen, detail, rule: rule ?? '' }));
      return;
    }
    const decision = evaluate(state.snapshot, facts.connection, this.#clock);
    const { revision } = state.snapshot;
    if (decision.verdict === 'allow') {
      this.liftReprieve();
      this.record.decided(decision, revision);
      return;
    }
    this.#grace ??= new GracePeriod({ onExpired: (last, at) => this.#terminate(last, at) });
    if (!this.#grace.grant(decision, revision)) this.#terminate(decision, revision);
  }

  cut(cut: ConnectionCut): void {
    this.signal.raise(cut);
  }

  /** Who is at an end is no matter of a revision; what a rule of the snapshot demands of them is. */
  #noteRefusal({ rule }: Ending, { snapshot }: WorkerState): void {
    if (rule !== undefined && snapshot !== null) this.record.refusedBy(rule, snapshot.revision);
  }

  #terminate(decision: Decision, revision: number): void {
    if (this.signal.cut !== null) return;
    this.record.decided(decision, revision);
    const rule = formatRuleRef(decision.rule);
    this.cut(new ConnectionCut({ reason: 'POLICY_TERMINATED', rule, detail: decision.reason }));
  }
}
