import { assertNever } from '../assert-never.js';
import type { Clock, Connection, Decision, RuleRef, TraceStep } from './connection.js';
import { connectionFacts, type ConnectionFacts } from './connection-facts.js';
import { matchesPolicy, type PreparedPolicy } from './prepared-authorization.js';
import { matchesRule } from './prepared-rule.js';
import { meshDefaultRef, prepareSnapshot, type PreparedSnapshot } from './prepared-snapshot.js';
import type { MeshSettings, Snapshot, Tier } from './snapshot.js';
import { Trace } from './trace.js';

export type EvaluateOptions = {
  /** Fill `Decision.trace`. Costs time for every rule; off for connections that carry traffic. */
  readonly trace?: boolean;
};

/**
 * Decides one connection: platform tier → team tier → AuthorizationPolicies → baseline tier → the mesh default
 * (DESIGN §6). Pure, and the only evaluator there is. The same snapshot object is prepared once.
 *
 * Throws CulvertError `SNAPSHOT_INVALID` when the snapshot cannot be read; see {@link prepareSnapshot}.
 */
export function evaluate(
  snapshot: Snapshot,
  connection: Connection,
  _clock: Clock,
  { trace = false }: EvaluateOptions = {},
): Decision {
  const rules = prepareSnapshot(snapshot);
  const facts = connectionFacts(connection, snapshot.trustDomain);
  const evaluation = new Evaluation({
    rules,
    facts,
    connection,
    trace: trace ? new Trace({ connection, facts }) : null,
  });
  return evaluation.run(snapshot.mesh);
}

type Outcome = { readonly verdict: 'allow' | 'deny'; readonly reason: Decision['reason']; readonly rule: RuleRef };

/** One run through the stages. */
class Evaluation {
  readonly #rules: PreparedSnapshot;
  readonly #facts: ConnectionFacts;
  readonly #connection: Connection;
  readonly #trace: Trace | null;
  readonly #audited: RuleRef[] = [];

  constructor(init: { rules: PreparedSnapshot; facts: ConnectionFacts; connection: Connection; trace: Trace | null }) {
    this.#rules = init.rules;
    this.#facts = init.facts;
    this.#connection = init.connection;
    this.#trace = init.trace;
  }

  run(mesh: MeshSettings): Decision {
    const outcome =
      this.#tier('platform') ??
      this.#tier('team') ??
      this.#authorization() ??
      this.#tier('baseline') ??
      this.#default(mesh);
    const trace: readonly TraceStep[] = this.#trace?.steps ?? [];
    return { ...outcome, onChange: { kind: 'terminate' }, audited: this.#audited, trace };
  }

  /** Undefined: nothing in this tier decides. */
  #tier(tier: Tier): Outcome | undefined {
    const outcome = this.#firstMatch(tier);
    this.#trace?.endTier(tier);
    return outcome;
  }

  #firstMatch(tier: Tier): Outcome | undefined {
    const rules =
      this.#trace === null ? this.#rules.rulesFor(tier, this.#facts.destination.namespace) : this.#rules.allRules(tier);
    for (const candidate of rules) {
      if (!matchesRule(candidate, this.#facts)) {
        this.#trace?.missedRule(candidate);
        continue;
      }
      this.#trace?.matchedRule(candidate);
      const { rule, ref } = candidate;
      if (rule.mode === 'audit') {
        if (rule.action === 'deny') this.#audited.push(ref);
        continue;
      }
      switch (rule.action) {
        case 'allow':
          return { verdict: 'allow', reason: 'OK', rule: ref };
        case 'deny':
          return { verdict: 'deny', reason: 'POLICY_DENY', rule: ref };
        case 'pass':
          return undefined;
        default:
          return assertNever(rule.action);
      }
    }
    return undefined;
  }

  /** Istio's semantics: a DENY that matches denies; where ALLOW policies are about the workload, one must match. */
  #authorization(): Outcome | undefined {
    const policies = this.#rules.policiesFor(this.#connection.destination.workload);
    const denying = policies.find((candidate) => candidate.policy.action === 'DENY' && this.#matches(candidate));
    const outcome = denying === undefined ? this.#allowed(policies) : deniedBy(denying);
    this.#trace?.endAuthorization(policies, outcome);
    return outcome;
  }

  #allowed(policies: readonly PreparedPolicy[]): Outcome | undefined {
    const allowing = policies.filter(({ policy }) => policy.action === 'ALLOW');
    const [first] = allowing;
    if (first === undefined) return undefined;
    const match = allowing.find((candidate) => this.#matches(candidate));
    if (match !== undefined) return { verdict: 'allow', reason: 'OK', rule: match.ref };
    return { verdict: 'deny', reason: 'POLICY_DEFAULT_DENY', rule: first.ref };
  }

  #matches(candidate: PreparedPolicy): boolean {
    return matchesPolicy(candidate, this.#facts);
  }

  #default({ defaultAction }: MeshSettings): Outcome {
    this.#trace?.endDefault(defaultAction);
    if (defaultAction === 'deny') return { verdict: 'deny', reason: 'POLICY_DEFAULT_DENY', rule: meshDefaultRef };
    if (defaultAction === 'audit') this.#audited.push(meshDefaultRef);
    return { verdict: 'allow', reason: 'OK', rule: meshDefaultRef };
  }
}

function deniedBy({ ref }: PreparedPolicy): Outcome {
  return { verdict: 'deny', reason: 'POLICY_DENY', rule: ref };
}
