import type { PortNames, RuleRef } from '../connection.js';
import type { PartyFacts } from '../connection-facts.js';
import { BoundedCache } from './bounded-cache.js';
import { KeyIndex } from './key-index.js';
import { peerNamespaces } from './network-selection.js';
import { preparePeer } from './prepared-network-policy.js';
import { matchesPorts } from './prepared-rule.js';
import type { ClusterPolicyRule, ClusterTier, CompiledClusterPolicy } from '../snapshot.js';

export type PreparedClusterRule = {
  readonly rule: ClusterPolicyRule;
  readonly ref: RuleRef;
  /** The other end of the connection; an empty list is every one. */
  readonly peers: readonly ((party: PartyFacts) => boolean)[];
};

/** The other end of a connection, as the rules of one direction see it. */
export type ClusterPeer = {
  readonly facts: PartyFacts;
  /** What the registry says of an unproved source: it can be denied, and neither accepted nor passed, for it. */
  readonly claimed: PartyFacts | null;
  readonly port: number;
  readonly names: PortNames | null;
};

/** The rules for one direction of one workload: those of all policies that select it, in order. */
export class ClusterRules {
  readonly rules: readonly PreparedClusterRule[];
  readonly #index: KeyIndex<PreparedClusterRule>;

  constructor({ rules }: { readonly rules: readonly PreparedClusterRule[] }) {
    this.rules = rules;
    this.#index = new KeyIndex({ items: rules, keysOf: ({ rule }) => peerNamespaces([rule], null) });
  }

  /** The first that matches. */
  first(peer: ClusterPeer): PreparedClusterRule | undefined {
    const namespaces = [peer.facts.namespace, peer.claimed?.namespace ?? null];
    return this.#index.first(namespaces, (rule) => matches(rule, peer));
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

function matches({ rule, peers }: PreparedClusterRule, { facts, claimed, port, names }: ClusterPeer): boolean {
  if (!matchesPorts(rule.ports, port, names)) return false;
  if (peers.length === 0) return true;
  for (const isPeer of peers) {
    if (isPeer(facts) || (rule.action === 'deny' && claimed !== null && isPeer(claimed))) return true;
  }
  return false;
}
