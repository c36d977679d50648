import { assertNever } from '../assert-never.js';
import { decideOwnTraffic } from './own-traffic.js';
import { meshDefaultRef, type Clock, type Connection, type Decision, type RuleRef } from './connection.js';
import { connectionFacts, type ConnectionFacts } from './connection-facts.js';
import { ClusterJudgement, type ClusterDecision } from './cluster-verdict.js';
import { networkPolicyVerdict, type NetworkPolicyVerdict } from './network-policy-verdict.js';
import type { AuthorizationSelection } from './prepared/authorization-selection.js';
import { matchesPolicy, type PreparedPolicy } from './prepared/prepared-authorization.js';
import { matchesRule, type PreparedRule } from './prepared/prepared-rule.js';
import {
  prepareSnapshot,
  type DestinationView,
  type PreparedSnapshot,
  type SourceView,
} from './prepared/prepared-snapshot.js';
import { ruleEffect } from './rule-effect.js';
import { findInAll } from './prepared/rule-bits.js';
import {
  plainRule,
  type ClusterTier,
  type CompiledRule,
  type MeshSettings,
  type OnChange,
  type Snapshot,
  type Tier,
} from './snapshot.js';
import { Trace } from './trace.js';

export type EvaluateOptions = {
  /** Fills `Decision.trace`. This takes time for every rule, so it is off for connections that carry traffic. */
  readonly trace?: boolean;
};

/**
 * Decides one connection in this order: what a workload sends to itself is allowed; then platform tier, team tier,
 * AuthorizationPolicies and NetworkPolicies, baseline tier, then the mesh's `outbound` setting for external destinations
 * and its default for all others. In the tiers platform and baseline, cluster policies come after the SegmentationRules
 * (see {@link ClusterJudgement}). Pure, and the only evaluator. A snapshot object is prepared once, and what concerns one
 * source or destination is looked up once.
 *
 * AuthorizationPolicies and NetworkPolicies are two boundaries side by side, as in a cluster that has both: a deny by
 * either is final, and an allow by one is final unless the other denies.
 *
 * Throws CulvertError `SNAPSHOT_INVALID` when the snapshot cannot be read; see {@link prepareSnapshot}.
 */
export function evaluate(
  snapshot: Snapshot,
  connection: Connection,
  clock: Clock,
  { trace = false }: EvaluateOptions = {},
): Decision {
  const rules = prepareSnapshot(snapshot);
  if (connection.isOwn === true) return decideOwnTraffic(trace);
  const source = rules.source(connection.source);
  const destination = rules.destination(connection.destination, connection.port);
  const facts = connectionFacts(source.facts, destination.facts, connection.port);
  const nowMs = clock.nowMs();
  const evaluation = new Evaluation({
    rules,
    source,
    destination,
    facts,
    nowMs,
    trace: trace ? new Trace({ connection, facts, nowMs }) : null,
  });
  return evaluation.run(snapshot.mesh);
}

export type Outcome = {
  readonly verdict: 'allow' | 'deny';
  readonly reason: Decision['reason'];
  readonly rule: RuleRef;
  readonly onChange: OnChange;
};

type EvaluationInit = {
  readonly rules: PreparedSnapshot;
  readonly source: SourceView;
  readonly destination: DestinationView;
  readonly facts: ConnectionFacts;
  readonly nowMs: number;
  readonly trace: Trace | null;
};

/** The state of one evaluation. */
class Evaluation {
  readonly #rules: PreparedSnapshot;
  readonly #source: SourceView;
  readonly #destination: DestinationView;
  readonly #facts: ConnectionFacts;
  readonly #nowMs: number;
  readonly #trace: Trace | null;
  /** Null: no cluster policy selects either end. */
  readonly #cluster: ClusterJudgement | null;
  readonly #audited: RuleRef[] = [];
  /** The first audited rule that would have allowed. If it were enforced, no later rule would be evaluated. */
  #wouldAllow: RuleRef | null = null;
  /** The first audited rule of this tier that would have passed to the next. */
  #wouldPass: RuleRef | null = null;
  /** The first rule that would have allowed the connection if it had not expired. */
  #expired: PreparedRule | null = null;

  constructor(init: EvaluationInit) {
    this.#rules = init.rules;
    this.#source = init.source;
    this.#destination = init.destination;
    this.#facts = init.facts;
    this.#nowMs = init.nowMs;
    this.#trace = init.trace;
    const { source, destination, facts } = init;
    // Most meshes have no cluster policies.
    if (source.cluster === null && destination.cluster === null) this.#cluster = null;
    else {
      const { isolation } = source;
      this.#cluster = new ClusterJudgement({
        facts,
        source: source.cluster,
        destination: destination.cluster,
        isolation,
      });
    }
  }

  run(mesh: MeshSettings): Decision {
    // Written out: a spread costs more than the whole decision.
    const { verdict, reason, rule, onChange } = this.#orExpired(
      this.#tier('platform') ??
        this.#tier('team') ??
        this.#policies() ??
        this.#tier('baseline') ??
        this.#unmatched(mesh),
    );
    return { verdict, reason, rule, onChange, audited: this.#audited, trace: this.#trace?.steps ?? [] };
  }

  /** Undefined: nothing in this tier decides. */
  #tier(tier: Tier): Outcome | undefined {
    const outcome = this.#trace === null ? this.#decideByIndex(tier) : this.#decideByAll(tier, this.#trace);
    this.#trace?.endTier(tier);
    this.#wouldPass = null;
    if (outcome === 'pass') return undefined;
    return outcome ?? (tier === 'team' ? undefined : this.#clusterTier(tier));
  }

  /** ClusterNetworkPolicies and the like, which come after the SegmentationRules of their tier. */
  #clusterTier(tier: ClusterTier): Outcome | undefined {
    if (this.#cluster === null) return undefined;
    const { matches, decision } = this.#cluster.judge(tier);
    this.#trace?.endClusterTier(tier, this.#cluster, matches, decision);
    return decision === undefined ? undefined : clusterOutcome(decision);
  }

  #decideByIndex(tier: Tier): Outcome | 'pass' | undefined {
    const [start, end] = this.#rules.ranges[tier];
    const { rules: a, words } = this.#source;
    const { port, destination } = this.#facts;
    const sets = { words, a, b: this.#destination.rules, c: this.#rules.port(port, destination.ports) };
    return findInAll(sets, start, end, (position) => {
      const candidate = this.#rules.rules[position];
      return candidate === undefined ? undefined : this.#apply(candidate);
    });
  }

  /** The same without the index, because a trace also reports the rules that do not match. */
  #decideByAll(tier: Tier, trace: Trace): Outcome | 'pass' | undefined {
    const [start, end] = this.#rules.ranges[tier];
    for (const candidate of this.#rules.rules.slice(start, end)) {
      if (!matchesRule(candidate, this.#facts)) {
        trace.missedRule(candidate);
        continue;
      }
      trace.matchedRule(candidate, this.#wouldAllow ?? this.#wouldPass);
      const outcome = this.#apply(candidate);
      if (outcome !== undefined) return outcome;
    }
    return undefined;
  }

  /** The effect of a matching rule; undefined when it decides nothing. */
  #apply(candidate: PreparedRule): Outcome | 'pass' | undefined {
    const { rule, ref } = candidate;
    const effect = ruleEffect(rule, this.#facts.rolloutKey, this.#nowMs);
    if (effect === 'audited') this.#applyAudited(rule.action, ref);
    if (effect === 'expired' && rule.action === 'allow') this.#expired ??= candidate;
    if (effect !== 'enforced') return undefined;
    switch (rule.action) {
      case 'allow':
        return { verdict: 'allow', reason: 'OK', rule: ref, onChange: rule.onChange };
      case 'deny':
        return { verdict: 'deny', reason: 'POLICY_DENY', rule: ref, onChange: rule.onChange };
      case 'pass':
        return 'pass';
      default:
        return assertNever(rule.action);
    }
  }

  /**
   * Follows audited rules in order as if they were enforced: one that would allow stops the rules after it from being
   * counted, and one that would pass stops those of its tier. Every rule that would deny counts, not only the first,
   * because each can be enforced on its own.
   */
  #applyAudited(action: CompiledRule['action'], ref: RuleRef): void {
    if (this.#wouldAllow !== null || this.#wouldPass !== null) return;
    if (action === 'deny') this.#audited.push(ref);
    else if (action === 'allow') this.#wouldAllow = ref;
    else this.#wouldPass = ref;
  }

  #policies(): Outcome | undefined {
    const authorized = this.#authorization();
    if (authorized?.verdict === 'deny') {
      this.#traceAuthorization(authorized);
      return authorized;
    }
    const network = this.#networkPolicies();
    const admitted = network === undefined ? undefined : asOutcome(network);
    const decided = admitted?.verdict === 'deny' ? admitted : (authorized ?? admitted);
    // The step that decides comes last in a trace.
    const isLast = authorized !== undefined && decided === authorized;
    if (!isLast) this.#traceAuthorization(authorized);
    const [egress, ingress] = [this.#source.isolation, this.#destination.isolation];
    this.#trace?.endNetworkPolicies(egress?.policies ?? [], ingress?.policies ?? [], network);
    if (isLast) this.#traceAuthorization(authorized);
    return admitted?.verdict === 'allow' ? (this.#refusedEgress() ?? decided) : decided;
  }

  /** What NetworkPolicies say of the ingress is final only where the tier baseline does not deny the egress. */
  #refusedEgress(): Outcome | undefined {
    const decision = this.#cluster?.deniedEgress();
    if (this.#cluster === null || decision === undefined) return undefined;
    this.#trace?.endClusterTier('baseline', this.#cluster, [], decision);
    return clusterOutcome(decision);
  }

  #authorization(): Outcome | undefined {
    const { policies } = this.#destination;
    if (policies.length === 0) return undefined;
    const outcome = this.#decideAuthorization(policies);
    if (policies.some(hasDryRun))
      this.#tryPolicies(
        policies.flatMap(({ dryRun }) => dryRun ?? []),
        outcome,
      );
    return outcome;
  }

  /** Istio's semantics: a matching DENY denies; if any ALLOW policy selects the workload, one must match. */
  #decideAuthorization(policies: readonly AuthorizationSelection[]): Outcome | undefined {
    for (const selection of policies) {
      const denying = selection.denying(this.#facts);
      if (denying !== undefined) return byPolicy('deny', 'POLICY_DENY', denying.ref);
    }
    let first: PreparedPolicy | undefined;
    for (const selection of policies) {
      const allowing = selection.allowing(this.#facts);
      if (allowing !== undefined) return byPolicy('allow', 'OK', allowing.ref);
      first ??= selection.firstAllowing;
    }
    return first === undefined ? undefined : byPolicy('deny', 'POLICY_DEFAULT_DENY', first.ref);
  }

  /**
   * Counts the policies of a dry run that would have denied if they had been enforced with the others, every DENY that
   * matches and, where no ALLOW does, the first ALLOW. One that would have allowed stops later audited rules from being
   * counted, as an audited rule does. `decided`: by the policies that are enforced.
   */
  #tryPolicies(tried: readonly AuthorizationSelection[], decided: Outcome | undefined): void {
    const denying = tried.flatMap(({ policies }) => policies.filter((policy) => isDenying(policy, this.#facts)));
    const allowing = tried.map((selection) => selection.allowing(this.#facts)).find((found) => found !== undefined);
    const first = tried.map(({ firstAllowing }) => firstAllowing).find((found) => found !== undefined);
    const isOpen = decided === undefined && allowing === undefined;
    const refusing = isOpen && first !== undefined ? [...denying, first] : denying;
    const wouldAllow = decided === undefined && refusing.length === 0 ? allowing : undefined;
    this.#trace?.tryPolicies(
      tried.flatMap(({ policies }) => policies),
      { refusing, shieldedBy: this.#wouldAllow },
    );
    if (this.#wouldAllow !== null) return;
    this.#audited.push(...refusing.map(({ ref }) => ref));
    if (wouldAllow !== undefined) this.#wouldAllow = wouldAllow.ref;
  }

  #traceAuthorization(decided: Outcome | undefined): void {
    this.#trace?.endAuthorization(
      this.#destination.policies.flatMap(({ policies }) => policies),
      decided,
    );
  }

  #networkPolicies(): NetworkPolicyVerdict | undefined {
    const egress = this.#cluster === null ? this.#source.isolation : this.#cluster.isolation;
    const ingress = this.#destination.isolation;
    if (egress === null && ingress === null) return undefined;
    const verdict = networkPolicyVerdict({ facts: this.#facts, egress, ingress });
    if (verdict === undefined) this.#cluster?.acceptEgress();
    return verdict;
  }

  /** The mesh's default, which applies when no rule decides. */
  #unmatched({ defaultAction, outbound }: MeshSettings): Outcome {
    const isExternal = this.#facts.destination.isExternal;
    const action = isExternal ? outbound : defaultAction;
    this.#trace?.endUnmatched(isExternal ? 'outbound' : 'default', action, this.#wouldAllow);
    if (action === 'deny') return byPolicy('deny', 'POLICY_DEFAULT_DENY', meshDefaultRef);
    if (action === 'audit' && this.#wouldAllow === null) this.#audited.push(meshDefaultRef);
    return byPolicy('allow', 'OK', meshDefaultRef);
  }

  /** When a deny follows from an expired rule, the decision names that rule and not only the one that denies now. */
  #orExpired(outcome: Outcome): Outcome {
    if (outcome.verdict === 'allow' || this.#expired === null) return outcome;
    const { rule, ref } = this.#expired;
    this.#trace?.endExpired(this.#expired, outcome.rule);
    return { verdict: 'deny', reason: 'POLICY_EXPIRED', rule: ref, onChange: rule.onChange };
  }
}

function hasDryRun({ dryRun }: AuthorizationSelection): boolean {
  return dryRun !== null;
}

function isDenying(policy: PreparedPolicy, facts: ConnectionFacts): boolean {
  return policy.policy.action === 'DENY' && matchesPolicy(policy, facts);
}

/** NetworkPolicies have no deny rules: an isolated workload refuses whatever is not allowed. */
function asOutcome({ verdict, rule }: NetworkPolicyVerdict): Outcome {
  return byPolicy(verdict, verdict === 'allow' ? 'OK' : 'POLICY_DEFAULT_DENY', rule);
}

function clusterOutcome({ verdict, by }: ClusterDecision): Outcome {
  if (!('prepared' in by)) return asOutcome(by);
  return byPolicy(verdict, verdict === 'allow' ? 'OK' : 'POLICY_DENY', by.prepared.ref);
}

/** Policies have no `onChange`: they terminate an open connection. */
function byPolicy(verdict: Outcome['verdict'], reason: Outcome['reason'], rule: RuleRef): Outcome {
  return { verdict, reason, rule, onChange: plainRule.onChange };
}
