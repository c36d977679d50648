import { formatRuleRef, meshDefaultRef, type Connection, type RuleRef, type TraceStep } from './connection.js';
import type { ClusterDecision, ClusterJudgement, ClusterMatch } from './cluster-verdict.js';
import type { ConnectionFacts, PartyFacts } from './connection-facts.js';
import {
  describeDestination,
  describePeer,
  describePeers,
  describeSegment,
  describePorts,
  describeSource,
} from './describe-peer.js';
import type { NetworkPolicyVerdict } from './network-policy-verdict.js';
import {
  matchesAuthorizationRule,
  matchesFrom,
  matchesTo,
  type PreparedPolicy,
} from './prepared/prepared-authorization.js';
import type { PreparedNetworkPolicy } from './prepared/prepared-network-policy.js';
import { matchesPeer } from './prepared/prepared-peer.js';
import { matchesSide, type PreparedSide } from './prepared/prepared-side.js';
import { matchesPorts, matchesSource, type PreparedRule } from './prepared/prepared-rule.js';
import { ruleEffect } from './rule-effect.js';
import type { ClusterTier, MeshSettings, Tier } from './snapshot.js';

/** Only the rules nearest to matching are explained; a mesh may have thousands. */
const maxMisses = 5;

/** Records why each step of an evaluation decided or did not. It observes the evaluator and decides nothing. */
export class Trace {
  readonly steps: TraceStep[] = [];
  readonly #connection: Connection;
  readonly #facts: ConnectionFacts;
  readonly #nowMs: number;
  #missed: PreparedRule[] = [];
  #hasTried = false;
  #matched: { readonly prepared: PreparedRule; readonly shieldedBy: RuleRef | null }[] = [];

  constructor(init: { connection: Connection; facts: ConnectionFacts; nowMs: number }) {
    this.#connection = init.connection;
    this.#facts = init.facts;
    this.#nowMs = init.nowMs;
  }

  missedRule(rule: PreparedRule): void {
    this.#missed.push(rule);
  }

  /** `shieldedBy`: an earlier audited rule that, if enforced, would stop this one from being evaluated. */
  matchedRule(prepared: PreparedRule, shieldedBy: RuleRef | null): void {
    this.#matched.push({ prepared, shieldedBy });
  }

  endTier(tier: Tier): void {
    if (this.#missed.length + this.#matched.length === 0) {
      this.#add(tier, null, 'no match', `there is no rule in the ${tier} tier`);
    }
    for (const rule of this.#nearestMisses()) this.#add(tier, rule.ref, 'no match', this.#whyMissed(rule));
    for (const { prepared, shieldedBy } of this.#matched) {
      const { outcome, prefix } = this.#effectOf(prepared, shieldedBy);
      this.#add(tier, prepared.ref, outcome, prefix + this.#whyMatched(prepared));
    }
    this.#missed = [];
    this.#matched = [];
  }

  /** Policies of a dry run. `refusing`: those that would have denied if they were enforced. */
  tryPolicies(
    tried: readonly PreparedPolicy[],
    { refusing, shieldedBy }: { readonly refusing: readonly PreparedPolicy[]; readonly shieldedBy: RuleRef | null },
  ): void {
    const behind = shieldedBy === null ? '' : ` but is behind ${formatRuleRef(shieldedBy)}, which is audited too`;
    this.#hasTried = tried.length > 0;
    for (const policy of tried) {
      const index = this.#firstMatchingRule(policy);
      const isRefusing = refusing.includes(policy);
      const would = policy.policy.action === 'DENY' || isRefusing ? 'deny' : 'allow';
      const matched =
        index < 0 ? 'no ALLOW policy allows this connection' : `rules[${index}] matches ${this.#source()}`;
      if (index < 0 && !isRefusing) {
        this.#add('authorization', policy.ref, 'no match', `dry run only: ${this.#whyPolicyMissed(policy)}`);
      } else {
        const outcome = shieldedBy === null ? 'audit' : 'no match';
        this.#add('authorization', policy.ref, outcome, `dry run only, would ${would}${behind}: ${matched}`);
      }
    }
  }

  /** `decided`: the result of the stage; undefined when it leaves the decision to the next one. */
  endAuthorization(
    policies: readonly PreparedPolicy[],
    decided: { readonly verdict: 'allow' | 'deny'; readonly reason: string; readonly rule: RuleRef } | undefined,
  ): void {
    const destination = describeDestination(this.#connection);
    if (policies.length === 0) {
      const which = this.#hasTried ? 'no enforced AuthorizationPolicy' : 'no AuthorizationPolicy';
      return this.#add('authorization', null, 'no match', `${which} selects ${destination}`);
    }
    const isDefaultDeny = decided?.reason === 'POLICY_DEFAULT_DENY';
    const missed = policies.filter(({ ref }) => isDefaultDeny || ref !== decided?.rule);
    for (const policy of missed.slice(0, maxMisses)) {
      if (decided !== undefined && this.#firstMatchingRule(policy) >= 0) continue;
      this.#add('authorization', policy.ref, 'no match', this.#whyPolicyMissed(policy));
    }
    const decisive = policies.find(({ ref }) => ref === decided?.rule);
    if (decided === undefined || decisive === undefined) return;
    const index = this.#firstMatchingRule(decisive);
    const detail = isDefaultDeny
      ? `ALLOW policies select ${destination} and none of them allows this connection`
      : `rules[${index}] matches ${this.#source()} and port ${this.#facts.port}`;
    this.#add('authorization', decided.rule, decided.verdict, detail);
  }

  endNetworkPolicies(
    egress: readonly PreparedNetworkPolicy[],
    ingress: readonly PreparedNetworkPolicy[],
    decided: NetworkPolicyVerdict | undefined,
  ): void {
    const destination = describeDestination(this.#connection);
    if (egress.length + ingress.length === 0) {
      const detail = `no NetworkPolicy isolates ${this.#source()} for egress or ${destination} for ingress`;
      return this.#add('networkPolicy', null, 'no match', detail);
    }
    if (decided === undefined) {
      const detail = `egress of ${this.#source()} is allowed, and no NetworkPolicy isolates ${destination}`;
      return this.#add('networkPolicy', null, 'no match', detail);
    }
    const { verdict, direction, rule } = decided;
    const isolated = direction === 'egress' ? this.#source() : destination;
    const peer = direction === 'egress' ? destination : this.#source();
    const policies = direction === 'egress' ? egress : ingress;
    const names = policies.slice(0, maxMisses).map(({ ref }) => ref.name);
    const among = policies.length === 1 ? 'which does not allow' : `with ${names.join(', ')}, and none allows`;
    const detail =
      verdict === 'allow'
        ? `an ${direction} rule of ${isolated} allows ${peer} and port ${this.#facts.port}`
        : `it isolates ${isolated} for ${direction}, ${among} ${peer} on port ${this.#facts.port}`;
    this.#add('networkPolicy', rule, verdict, detail);
  }

  /** `decision` undefined: the tier leaves the decision to what comes after it. */
  endClusterTier(
    tier: ClusterTier,
    judgement: ClusterJudgement,
    matches: readonly ClusterMatch[],
    decision: ClusterDecision | undefined,
  ): void {
    const by = decision?.by;
    for (const direction of ['egress', 'ingress'] as const) {
      if (judgement.rulesOf(tier, direction) === null || matches.some((match) => match.direction === direction))
        continue;
      if (by !== undefined && 'prepared' in by && by.direction === direction) continue;
      const detail = `no ${direction} rule of ${this.#endOf(direction)} matches`;
      this.#add(tier, null, 'no match', detail);
    }
    for (const match of matches) {
      if (match === by) continue;
      const { action } = match.prepared.rule;
      const rest = action === 'pass' ? 'passes to what comes next' : `accepts; the other direction is judged by itself`;
      this.#add(
        tier,
        match.prepared.ref,
        'pass',
        `an ${match.direction} rule of ${this.#endOf(match.direction)} ${rest}`,
      );
    }
    if (decision === undefined || by === undefined) return;
    const detail = `an ${by.direction} rule of ${this.#endOf(by.direction)} matches port ${this.#facts.port}`;
    if ('prepared' in by) this.#add(tier, by.prepared.ref, decision.verdict, detail);
    else this.#add('networkPolicy', by.rule, by.verdict, `no ${detail}`);
  }

  #endOf(direction: 'egress' | 'ingress'): string {
    return direction === 'egress' ? this.#source() : describeDestination(this.#connection);
  }

  /** `wouldAllow`: the audited rule because of which `audit` is not counted. */
  endUnmatched(stage: 'outbound' | 'default', action: MeshSettings['defaultAction'], wouldAllow: RuleRef | null): void {
    const detail =
      stage === 'outbound'
        ? `no rule decides, nothing in the mesh names ${describeDestination(this.#connection)}, and outbound of the mesh is ${action}`
        : `no rule decides, and defaultAction of the mesh is ${action}`;
    if (action !== 'audit' || wouldAllow === null) return this.#add(stage, meshDefaultRef, action, detail);
    const shielded = `${detail}, which is not counted because audited ${formatRuleRef(wouldAllow)} would allow`;
    this.#add(stage, meshDefaultRef, 'allow', shielded);
  }

  /** `denying`: the rule that denies now that this one has expired. */
  endExpired({ rule, ref }: PreparedRule, denying: RuleRef): void {
    const detail = `it allowed this until it expired at ${formatTime(rule.expiresAtMs)}; now ${formatRuleRef(denying)} denies`;
    this.#add(rule.tier, ref, 'deny', detail);
  }

  #add(stage: TraceStep['stage'], rule: RuleRef | null, outcome: TraceStep['outcome'], detail: string): void {
    this.steps.push({ stage, rule, outcome, detail });
  }

  #nearestMisses(): PreparedRule[] {
    const scored = this.#missed.map((rule) => ({ rule, failures: this.#failures(rule).length }));
    // The sort is stable: rules that are equally near stay in evaluation order.
    return scored
      .sort((a, b) => a.failures - b.failures)
      .slice(0, maxMisses)
      .map(({ rule }) => rule);
  }

  #failures(prepared: PreparedRule): ('source' | 'destination' | 'port')[] {
    const failures: ('source' | 'destination' | 'port')[] = [];
    if (!matchesSource(prepared, this.#facts)) failures.push('source');
    if (!matchesSide(prepared.to, this.#facts.destination)) failures.push('destination');
    const { port, destination } = this.#facts;
    if (!matchesPorts(prepared.rule.ports, port, destination.ports)) failures.push('port');
    return failures;
  }

  #effectOf({ rule }: PreparedRule, shieldedBy: RuleRef | null): { outcome: TraceStep['outcome']; prefix: string } {
    const { action, mode, rollout, validFromMs, expiresAtMs } = rule;
    switch (ruleEffect(rule, this.#facts.rolloutKey, this.#nowMs)) {
      case 'enforced':
        return { outcome: action, prefix: '' };
      case 'audited': {
        const why = mode === 'audit' ? '' : ` (rollout is ${rollout} % and leaves this source out)`;
        if (shieldedBy === null) return { outcome: 'audit', prefix: `audited only${why}, would ${action}: ` };
        const behind = `behind ${formatRuleRef(shieldedBy)}, which is audited too and would decide first`;
        return { outcome: 'no match', prefix: `audited only${why}, would ${action} but is ${behind}: ` };
      }
      case 'expired':
        return { outcome: 'no match', prefix: `expired at ${formatTime(expiresAtMs)}, would ${action}: ` };
      case 'none': {
        const isEarly = validFromMs !== null && this.#nowMs < validFromMs;
        const when = isEarly ? `from ${formatTime(validFromMs)} on` : `until ${formatTime(expiresAtMs)}`;
        return { outcome: 'no match', prefix: `in force only ${when}: ` };
      }
    }
  }

  #whyMissed(prepared: PreparedRule): string {
    const [failure] = this.#failures(prepared);
    const { from, to, ports } = prepared.rule;
    if (failure === 'source') return `${this.#source()} is not ${describePeers(from)}`;
    if (failure === 'destination') return `${describeDestination(this.#connection)} is not ${describePeers(to)}`;
    return `port ${this.#facts.port} is not in ${describePorts(ports)}`;
  }

  #whyMatched({ rule, from, to }: PreparedRule): string {
    const { source, claimedSource, destination, port } = this.#facts;
    const peer = whichPeer(from, source) ?? (claimedSource === null ? undefined : whichPeer(from, claimedSource));
    const target = whichPeer(to, destination);
    const parts = [
      peer === undefined ? 'any source' : `${this.#source()} is ${peer}`,
      target === undefined ? 'any destination' : `${describeDestination(this.#connection)} is ${target}`,
      rule.ports.length === 0 ? 'any port' : `port ${port} is in ${describePorts(rule.ports)}`,
    ];
    return parts.join('; ');
  }

  #firstMatchingRule({ rules }: PreparedPolicy): number {
    return rules.findIndex((rule) => matchesAuthorizationRule(rule, this.#facts));
  }

  #whyPolicyMissed({ policy, rules }: PreparedPolicy): string {
    if (rules.length === 0) return `this ${policy.action} policy has no rules, so it matches nothing`;
    const fromMatched = rules.filter((rule) => matchesFrom(rule, this.#facts));
    const isToMatched = fromMatched.some((rule) => matchesTo(rule, this.#facts));
    if (isToMatched) return 'a condition in `when` of the rule whose `from` and `to` match does not hold';
    if (fromMatched.length > 0) return `port ${this.#facts.port} is in no \`to\` of a rule whose \`from\` matches`;
    const { principal } = this.#facts;
    return `${this.#source()} with principal ${principal ?? '(none)'} matches no \`from\``;
  }

  #source(): string {
    return describeSource(this.#connection, this.#facts);
  }
}

function formatTime(ms: number | null): string {
  return ms === null ? 'never' : new Date(ms).toISOString();
}

/** The first alternative that the party is, in words. */
function whichPeer({ peers, segments }: PreparedSide, facts: PartyFacts): string | undefined {
  const peer = peers.find((candidate) => matchesPeer(candidate, facts));
  if (peer !== undefined) return describePeer(peer.match);
  const segment = segments.find((candidate) => candidate.has(facts));
  return segment === undefined ? undefined : describeSegment(segment.name);
}
