import type {
  AdminNetworkPolicy,
  AdminPolicyPort,
  BaselineAdminNetworkPolicy,
} from '../resources/kinds/admin-network-policy.js';
import type { ClusterNetworkPolicy, ClusterProtocol } from '../resources/kinds/cluster-network-policy.js';
import type { ClusterEgressPeer, ClusterSubject } from '../resources/kinds/cluster-policy-parts.js';
import { requirementsOf } from './compile-network-policies.js';
import { mergeRulePorts } from './merge-ports.js';
import type { Resource } from '../resources/kinds/resource.js';
import {
  clusterPolicyKinds,
  clusterTiers,
  type ClusterPolicyRule,
  type CompiledClusterPolicy,
  type NetworkPolicyPeer,
} from '../../shared/policy/snapshot.js';

export type ClusterPolicy = ClusterNetworkPolicy | AdminNetworkPolicy | BaselineAdminNetworkPolicy;

/** Compiles the policies for a whole cluster, sorted by tier, priority, kind and name. */
export function compileClusterPolicies(policies: readonly ClusterPolicy[]): CompiledClusterPolicy[] {
  return policies.map(compilePolicy).sort(inOrderOfEvaluation);
}

/** Compiled policies by document, so that unchanged ones stay the same objects. */
const compiled = new WeakMap<ClusterPolicy, CompiledClusterPolicy>();

function compilePolicy(policy: ClusterPolicy): CompiledClusterPolicy {
  const known = compiled.get(policy) ?? compileUncached(policy);
  compiled.set(policy, known);
  return known;
}

function compileUncached(policy: ClusterPolicy): CompiledClusterPolicy {
  const { kind, metadata, spec } = policy;
  return {
    kind,
    name: metadata.name,
    ...rankOf(policy),
    subject: podsOf(spec.subject),
    ingress: (spec.ingress ?? []).flatMap((rule) => compileRule(rule.action, rule.from, rule)),
    egress: (spec.egress ?? []).flatMap((rule) => compileRule(rule.action, rule.to, rule)),
  };
}

/** Where a policy stands; `priority` of the one BaselineAdminNetworkPolicy comes last in its tier. */
export function rankOf(policy: ClusterPolicy): Pick<CompiledClusterPolicy, 'tier' | 'priority'> {
  switch (policy.kind) {
    case 'ClusterNetworkPolicy':
      return { tier: policy.spec.tier === 'Admin' ? 'platform' : 'baseline', priority: policy.spec.priority };
    case 'AdminNetworkPolicy':
      return { tier: 'platform', priority: policy.spec.priority };
    case 'BaselineAdminNetworkPolicy':
      return { tier: 'baseline', priority: 1001 };
  }
}

const actions = { Accept: 'accept', Allow: 'accept', Deny: 'deny', Pass: 'pass' } as const;

/** Returns no rule when ports are listed but none is TCP: such a rule is about nothing that Culvert carries. */
function compileRule(
  action: string,
  peers: readonly ClusterEgressPeer[],
  rule: { readonly protocols?: readonly ClusterProtocol[]; readonly ports?: readonly AdminPolicyPort[] },
): ClusterPolicyRule[] {
  const listed = [...(rule.protocols ?? []).map(portsOfProtocol), ...(rule.ports ?? []).map(portsOfOlder)];
  const ports = listed.filter((port) => port !== null);
  if (listed.length > 0 && ports.length === 0) return [];
  const known = actions[action as keyof typeof actions];
  return [{ action: known, peers: peers.flatMap(compilePeer), ports: mergeRulePorts(ports) }];
}

/** As rules write it; null: not TCP. */
function portsOfProtocol({ tcp, destinationNamedPort }: ClusterProtocol): string | null {
  if (destinationNamedPort !== undefined) return destinationNamedPort;
  if (tcp === undefined) return null;
  const { number, range } = tcp.destinationPort;
  return range === undefined ? String(number) : `${range.start}-${range.end}`;
}

function portsOfOlder({ namedPort, portNumber, portRange }: AdminPolicyPort): string | null {
  if (namedPort !== undefined) return namedPort;
  if ((portNumber ?? portRange)?.protocol !== 'TCP') return null;
  return portRange === undefined ? String(portNumber?.port) : `${portRange.start}-${portRange.end}`;
}

function compilePeer({ networks, ...pods }: ClusterEgressPeer): NetworkPolicyPeer[] {
  if (networks !== undefined) return networks.map((cidr) => ({ kind: 'block', cidr, except: [] }));
  return [{ kind: 'pods', ...podsOf(pods) }];
}

function podsOf({ namespaces, pods }: ClusterSubject): CompiledClusterPolicy['subject'] {
  return {
    namespaceSelector: requirementsOf(pods?.namespaceSelector ?? namespaces ?? {}),
    podSelector: requirementsOf(pods?.podSelector ?? {}),
  };
}

function inOrderOfEvaluation(a: CompiledClusterPolicy, b: CompiledClusterPolicy): number {
  const byTier = clusterTiers.indexOf(a.tier) - clusterTiers.indexOf(b.tier);
  if (byTier !== 0) return byTier;
  if (a.priority !== b.priority) return a.priority - b.priority;
  return `${a.kind}/${a.name}` < `${b.kind}/${b.name}` ? -1 : 1;
}

export function isClusterPolicy(resource: Resource): resource is ClusterPolicy {
  return clusterPolicyKinds.some((kind) => kind === resource.kind);
}
