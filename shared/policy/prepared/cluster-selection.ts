import type { PortNames, RuleRef } from '../connection.js';
import type { PartyFacts } from '../connection-facts.js';
import { BoundedCache } from './bounded-cache.js';
import { OrderedTests } from './ordered-tests.js';
import { peerNamespaces } from './network-selection.js';
import { matchesPeers, preparePeer, type PeerTest } from './prepared-network-policy.js';
import type { ClusterPolicyRule, ClusterTier, CompiledClusterPolicy } from '../snapshot.js';

export type PreparedClusterRule = {
  readonly rule: ClusterPolicyRule;
  readonly ref: RuleRef;
  /** The other end of the connection; an empty list is every one. */
  readonly peers: readonly PeerTest[];
};

/** What the registry says of an unproved source (`claimedSource`) can be denied, and neither accepted nor passed. */
export type ClusterParty = { readonly source: PartyFacts; readonly claimedSource: PartyFacts | null };

/** The other end of a connection, as the rules of one direction see it. */
export type ClusterPeer = {
  readonly party: ClusterParty;
  readonly port: number;
  readonly names: PortNames | null;
};

/** The rules for one direction of one workload: those of all policies that select it, in order. */
export class ClusterRules {
  readonly rules: readonly PreparedClusterRule[];
  readonly #tests: OrderedTests<PreparedClusterRule, ClusterParty>;

  constructor({ rules }: { readonly rules: readonly PreparedClusterRule[] }) {
    this.rules = rules;
    this.#tests = new OrderedTests({
      items: rules,
      keysOf: ({ rule }) => peerNamespaces([rule], null),
      matches: matchesParty,
      portsOf: ({ rule }) => rule.ports,
      alternativesOf: ({ peers }) => peers.length,
    });
  }

  /** The first that matches. */
  first({ party, port, names }: ClusterPeer): PreparedClusterRule | undefined {
    const keys = [party.source.namespace, party.claimedSource?.namespace ?? null];
    return this.#tests.first({ party, view: party.source, keys, port, names });
  }
}

/** Null: no policy of the tier has a rule for this direction of the workload. */
export type ClusterSelection = Readonly<Record<ClusterTier, Readonly<Record<ClusterDirection, ClusterRules | null>>>>;
export type ClusterDirection = 'ingress' | 'egress';

const maxSelections = 1024;

type Prepared = {
  readonly policy: CompiledClusterPolicy;
  readonly selects: (party: PartyFacts) => boolean;
  readonly ingress: readonly PreparedClusterRule[];
  readonly egress: readonly PreparedClusterRule[];
};

/** The policies of a whole cluster, and which of them select a workload. Workloads with the same ones share an answer. */
export class ClusterPolicies {
  readonly #policies: readonly Prepared[];
  readonly #known = new BoundedCache<string, ClusterSelection>({ maxEntries: maxSelections });

  /** `policies`: in order. Throws CulvertError `SNAPSHOT_INVALID` for a CIDR that cannot be read. */
  constructor({ policies }: { readonly policies: readonly CompiledClusterPolicy[] }) {
    this.#policies = policies.map(preparePolicy);
  }

  /** Null: no policy selects the party. What is no workload is never selected. */
  about(party: PartyFacts): ClusterSelection | null {
    if (this.#policies.length === 0 || party.labels === null) return null;
    const positions = [...this.#policies.keys()].filter((position) => this.#policies[position]?.selects(party));
    if (positions.length === 0) return null;
    const signature = positions.join(' ');
    const known = this.#known.get(signature);
    if (known !== undefined) return known;
    const selection = selectionOf(positions.flatMap((position) => this.#policies[position] ?? []));
    this.#known.set(signature, selection);
    return selection;
  }
}

function selectionOf(policies: readonly Prepared[]): ClusterSelection {
  const rulesOf = (tier: ClusterTier, direction: ClusterDirection): ClusterRules | null => {
    const rules = policies.filter(({ policy }) => policy.tier === tier).flatMap((policy) => policy[direction]);
    return rules.length === 0 ? null : new ClusterRules({ rules });
  };
  const ofTier = (tier: ClusterTier) => ({ ingress: rulesOf(tier, 'ingress'), egress: rulesOf(tier, 'egress') });
  return { platform: ofTier('platform'), baseline: ofTier('baseline') };
}

function preparePolicy(policy: CompiledClusterPolicy): Prepared {
  const { kind, name, tier } = policy;
  const ref: RuleRef = Object.freeze({ kind, name, tier });
  const prepare = (rules: readonly ClusterPolicyRule[]): PreparedClusterRule[] =>
    rules.map((rule) => ({ rule, ref, peers: rule.peers.map((peer) => preparePeer(peer, '')) }));
  return {
    policy,
    selects: preparePeer({ kind: 'pods', ...policy.subject }, ''),
    ingress: prepare(policy.ingress),
    egress: prepare(policy.egress),
  };
}

function matchesParty({ rule, peers }: PreparedClusterRule, { source, claimedSource }: ClusterParty): boolean {
  if (matchesPeers(peers, source)) return true;
  return rule.action === 'deny' && claimedSource !== null && matchesPeers(peers, claimedSource);
}
