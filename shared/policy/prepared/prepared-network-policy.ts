import type { RuleRef } from '../connection.js';
import type { PartyFacts } from '../connection-facts.js';
import { readNetworks } from './conditions.js';
import type { CompiledNetworkPolicy, LabelRequirement, NetworkPolicyPeer, NetworkPolicyRule } from '../snapshot.js';

export type PreparedNetworkPolicy = {
  readonly policy: CompiledNetworkPolicy;
  readonly podSelector: readonly PreparedRequirement[];
  readonly ref: RuleRef;
  readonly ingress: readonly PreparedNetworkRule[] | null;
  readonly egress: readonly PreparedNetworkRule[] | null;
};

export type PreparedNetworkRule = {
  readonly written: NetworkPolicyRule;
  /** An empty list is every party. */
  readonly peers: readonly PeerTest[];
};

/** Whether a party is a peer. */
export type PeerTest = (party: PartyFacts) => boolean;

/** Throws CulvertError `SNAPSHOT_INVALID` for a CIDR that cannot be read. */
export function prepareNetworkPolicy(policy: CompiledNetworkPolicy): PreparedNetworkPolicy {
  const { namespace, name } = policy;
  const prepareRules = (rules: readonly NetworkPolicyRule[] | null) =>
    rules?.map((written) => ({ written, peers: written.peers.map((peer) => preparePeer(peer, namespace)) })) ?? null;
  return {
    policy,
    podSelector: prepareRequirements(policy.podSelector),
    ref: Object.freeze({ kind: 'NetworkPolicy', name, namespace } as const),
    ingress: prepareRules(policy.ingress),
    egress: prepareRules(policy.egress),
  };
}

/** `ownNamespace`: of the policy; peers without a namespace selector are in it. */
export function preparePeer(peer: NetworkPolicyPeer, ownNamespace: string): PeerTest {
  if (peer.kind === 'block') {
    const [network, excepts] = [readNetworks([peer.cidr]), readNetworks(peer.except)];
    return ({ ip }) => network.has(ip) && !excepts.has(ip);
  }
  const namespaceSelector = peer.namespaceSelector === null ? null : prepareRequirements(peer.namespaceSelector);
  const podSelector = prepareRequirements(peer.podSelector);
  return ({ namespace, namespaceLabels, labels }) => {
    if (labels === null || namespaceLabels === null) return false;
    const isInNamespace =
      namespaceSelector === null ? namespace === ownNamespace : hasRequired(namespaceSelector, namespaceLabels);
    return isInNamespace && hasRequired(podSelector, labels);
  };
}

/** Whether the policy selects a workload of its namespace with these labels. */
export function selectsLabels(
  { podSelector }: PreparedNetworkPolicy,
  labels: Readonly<Record<string, string>>,
): boolean {
  return hasRequired(podSelector, labels);
}

/** An empty list is every party. */
export function matchesPeers(peers: readonly PeerTest[], party: PartyFacts): boolean {
  if (peers.length === 0) return true;
  for (const isPeer of peers) if (isPeer(party)) return true;
  return false;
}

/** Requirements on labels with their values in sets: a selector may list thousands. */
type PreparedRequirement = Pick<LabelRequirement, 'key' | 'operator'> & { readonly values: ReadonlySet<string> };

function prepareRequirements(requirements: readonly LabelRequirement[]): readonly PreparedRequirement[] {
  return requirements.map(({ key, operator, values }) => ({ key, operator, values: new Set(values) }));
}

/** `NotIn` and `DoesNotExist` also hold when the label is missing (Kubernetes, Labels and Selectors). */
function hasRequired(requirements: readonly PreparedRequirement[], labels: Readonly<Record<string, string>>): boolean {
  for (const { key, operator, values } of requirements) {
    const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
    if (!holds(operator, value, values)) return false;
  }
  return true;
}

function holds(
  operator: LabelRequirement['operator'],
  value: string | undefined,
  values: ReadonlySet<string>,
): boolean {
  switch (operator) {
    case 'In':
      return value !== undefined && values.has(value);
    case 'NotIn':
      return value === undefined || !values.has(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
  }
}
