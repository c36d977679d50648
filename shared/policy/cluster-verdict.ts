import type { ConnectionFacts } from './connection-facts.js';
import type { NetworkPolicyVerdict } from './network-policy-verdict.js';
import type { NetworkIsolation } from './prepared/network-selection.js';
import { directionVerdict } from './network-policy-verdict.js';
import type {
  ClusterDirection,
  ClusterRules,
  ClusterSelection,
  PreparedClusterRule,
} from './prepared/cluster-selection.js';
import type { ClusterTier } from './snapshot.js';

/** The rule of one direction that matches a connection first. */
export type ClusterMatch = { readonly direction: ClusterDirection; readonly prepared: PreparedClusterRule };

/** What decides: a rule of a cluster policy, or a NetworkPolicy that stands between the tiers. */
export type ClusterDecision =
  | { readonly verdict: 'allow' | 'deny'; readonly by: ClusterMatch }
  | { readonly verdict: 'deny'; readonly by: NetworkPolicyVerdict };

/**
 * How ClusterNetworkPolicies, AdminNetworkPolicies and the BaselineAdminNetworkPolicy judge one connection, with
 * Kubernetes' semantics (network-policy-api, "Tier" and "Action"): each direction has its own verdict, and a connection
 * needs both. For one direction the rules of the tier platform (Admin) come first; after a `pass`, or without a match, the
 * NetworkPolicies of that direction; and where none isolates, the tier baseline. A direction without a verdict accepts.
 *
 * A deny is final. An accept is final once both directions are settled: that of the ingress, because it says what the
 * destination takes, when nothing denies the egress; that of the egress when the destination is no workload and has no
 * ingress. An accepted egress to a workload leaves the decision to the rules after it.
 */
export class ClusterJudgement {
  readonly #facts: ConnectionFacts;
  readonly #source: ClusterSelection | null;
  readonly #destination: ClusterSelection | null;
  readonly #isolation: NetworkIsolation | null;
  /** A cluster policy or NetworkPolicy has accepted the egress. */
  #isEgressAccepted = false;

  /** `isolation`: the NetworkPolicies of the source's egress. */
  constructor(init: {
    readonly facts: ConnectionFacts;
    readonly source: ClusterSelection | null;
    readonly destination: ClusterSelection | null;
    readonly isolation: NetworkIsolation | null;
  }) {
    this.#facts = init.facts;
    this.#source = init.source;
    this.#destination = init.destination;
    this.#isolation = init.isolation;
  }

  /** The NetworkPolicies of the source's egress that still have to be asked; null: none. */
  get isolation(): NetworkIsolation | null {
    return this.#isEgressAccepted ? null : this.#isolation;
  }

  /** The rules of both directions in a tier that match; `decision` undefined: it is left to what comes after. */
  judge(tier: ClusterTier): {
    readonly matches: readonly ClusterMatch[];
    readonly decision: ClusterDecision | undefined;
  } {
    const egress = this.#isEgressAccepted ? undefined : this.#match(tier, 'egress');
    const ingress = this.#match(tier, 'ingress');
    const matches = [egress, ingress].filter((match) => match !== undefined);
    const denying = matches.find(({ prepared }) => prepared.rule.action === 'deny');
    if (denying !== undefined) return { matches, decision: { verdict: 'deny', by: denying } };
    this.#isEgressAccepted ||= egress?.prepared.rule.action === 'accept';
    if (ingress?.prepared.rule.action === 'accept') {
      const decision = this.deniedEgress() ?? { verdict: 'allow', by: ingress };
      return { matches, decision };
    }
    const isLeaving = egress?.prepared.rule.action === 'accept' && this.#facts.destination.labels === null;
    return { matches, decision: isLeaving ? { verdict: 'allow', by: egress } : undefined };
  }

  /**
   * What denies the egress after the tier platform: the NetworkPolicies that isolate the source or, where none does, the
   * tier baseline.
   */
  deniedEgress(): ClusterDecision | undefined {
    if (this.#isEgressAccepted) return undefined;
    const sent = directionVerdict(this.#isolation, 'egress', this.#facts);
    if (sent !== undefined) return sent.verdict === 'deny' ? { verdict: 'deny', by: sent } : undefined;
    const match = this.#match('baseline', 'egress');
    return match?.prepared.rule.action === 'deny' ? { verdict: 'deny', by: match } : undefined;
  }

  /** NetworkPolicies have accepted the egress, so the tier baseline is not asked about it. */
  acceptEgress(): void {
    this.#isEgressAccepted = true;
  }

  rulesOf(tier: ClusterTier, direction: ClusterDirection): ClusterRules | null {
    return (direction === 'egress' ? this.#source : this.#destination)?.[tier][direction] ?? null;
  }

  #match(tier: ClusterTier, direction: ClusterDirection): ClusterMatch | undefined {
    const rules = this.rulesOf(tier, direction);
    if (rules === null) return undefined;
    const { destination, port } = this.#facts;
    const party = direction === 'egress' ? { source: destination, claimedSource: null } : this.#facts;
    const prepared = rules.first({ party, port, names: destination.ports });
    return prepared === undefined ? undefined : { direction, prepared };
  }
}
