import type { PortNames } from '../connection.js';
import type { PartyFacts } from '../connection-facts.js';
import { OrderedTests } from './ordered-tests.js';
import { namespaceNameLabel } from './namespace-labels.js';
import { labelKey, type ScopeKind } from './policy-scope.js';
import {
  matchesPeers,
  selectsLabels,
  type PreparedNetworkPolicy,
  type PreparedNetworkRule,
} from './prepared-network-policy.js';
import type { NetworkPolicyPeer, NetworkPolicyRule } from '../snapshot.js';

type Direction = 'ingress' | 'egress';

/** The NetworkPolicies that isolate one workload in one direction: at least one, in document order. */
export class NetworkIsolation {
  readonly policies: readonly PreparedNetworkPolicy[];
  readonly #rules: OrderedTests<RuleOfPolicy, PartyFacts>;

  constructor(init: { readonly policies: readonly PreparedNetworkPolicy[]; readonly direction: Direction }) {
    const { policies, direction } = init;
    this.policies = policies;
    this.#rules = new OrderedTests({
      items: policies.flatMap((policy) => (policy[direction] ?? []).map((rule) => ({ rule, policy }))),
      keysOf: ({ rule, policy }) => peerNamespaces([rule.written], policy.policy.namespace),
      matches: ({ rule }, party) => matchesPeers(rule.peers, party),
      portsOf: ({ rule }) => rule.written.ports,
      alternativesOf: ({ rule }) => rule.peers.length,
    });
  }

  /** The first policy that allows the other side of a connection. `names`: the named ports of its destination. */
  allowing(peer: PartyFacts, port: number, names: PortNames | null): PreparedNetworkPolicy | undefined {
    return this.#rules.first({ party: peer, view: peer, keys: [peer.namespace], port, names })?.policy;
  }
}

type RuleOfPolicy = { readonly rule: PreparedNetworkRule; readonly policy: PreparedNetworkPolicy };

/** Null: not isolated in this direction, so everything is accepted. */
export type NetworkSelection = {
  readonly ingress: NetworkIsolation | null;
  readonly egress: NetworkIsolation | null;
};

/** NetworkPolicies select workloads by requirements on labels. */
export const networkScope: ScopeKind<PreparedNetworkPolicy, NetworkSelection> = {
  keysOf: ({ policy: { podSelector } }) => {
    const required = podSelector.find(({ operator }) => operator === 'In');
    return required?.values.map((value) => labelKey(required.key, value)) ?? null;
  },
  selects: selectsLabels,
  select: (policies) => ({ ingress: isolation(policies, 'ingress'), egress: isolation(policies, 'egress') }),
};

function isolation(selected: readonly PreparedNetworkPolicy[], direction: Direction): NetworkIsolation | null {
  const policies = selected.filter((policy) => policy[direction] !== null);
  return policies.length === 0 ? null : new NetworkIsolation({ policies, direction });
}

/** Namespaces that a peer must be in; null: it may be in others. `own`: the namespace of the policy, if it has one. */
export function peerNamespaces(rules: readonly NetworkPolicyRule[], own: string | null): readonly string[] | null {
  const names: string[] = [];
  for (const { peers } of rules) {
    if (peers.length === 0) return null;
    for (const peer of peers) {
      const namespaces = namespacesOf(peer, own);
      if (namespaces === null) return null;
      names.push(...namespaces);
    }
  }
  return names;
}

function namespacesOf(peer: NetworkPolicyPeer, own: string | null): readonly string[] | null {
  if (peer.kind === 'block') return null;
  if (peer.namespaceSelector === null) return own === null ? null : [own];
  const named = peer.namespaceSelector.find(({ key, operator }) => key === namespaceNameLabel && operator === 'In');
  return named?.values ?? null;
}
