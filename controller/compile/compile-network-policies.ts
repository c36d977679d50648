import type {
  NetworkPolicy,
  NetworkPolicyPeerField,
  NetworkPolicyPort,
  NetworkPolicySelector,
} from '../resources/kinds/network-policy.js';
import { byNamespaceAndName } from './compile-authorization.js';
import { mergeRulePorts } from './merge-ports.js';
import type {
  CompiledNetworkPolicy,
  LabelRequirement,
  NetworkPolicyPeer,
  NetworkPolicyRule,
  RulePort,
} from '../../shared/policy/snapshot.js';

/** Compiles NetworkPolicies, sorted by namespace and name, with Kubernetes' defaults filled in. */
export function compileNetworkPolicies(policies: readonly NetworkPolicy[]): CompiledNetworkPolicy[] {
  return policies.map(compilePolicy).sort(byNamespaceAndName);
}

/** Compiled policies by document, so that unchanged ones stay the same objects. */
const compiled = new WeakMap<NetworkPolicy, CompiledNetworkPolicy>();

function compilePolicy(policy: NetworkPolicy): CompiledNetworkPolicy {
  const known = compiled.get(policy) ?? compileUncached(policy);
  compiled.set(policy, known);
  return known;
}

function compileUncached({ metadata, spec }: NetworkPolicy): CompiledNetworkPolicy {
  const { ingress = [], egress = [], policyTypes = [] } = spec;
  // Without any type a policy applies to ingress, and to egress if it has egress rules. An empty list is no type: for
  // Kubernetes it is the same as an absent field.
  const assumed = egress.length > 0 ? ['Ingress', 'Egress'] : ['Ingress'];
  const types: readonly string[] = policyTypes.length > 0 ? policyTypes : assumed;
  return {
    namespace: metadata.namespace,
    name: metadata.name,
    podSelector: requirementsOf(spec.podSelector),
    ingress: types.includes('Ingress') ? ingress.flatMap(({ from, ports }) => compileRule(from, ports)) : null,
    egress: types.includes('Egress') ? egress.flatMap(({ to, ports }) => compileRule(to, ports)) : null,
  };
}

/** Returns no rule when ports are listed but none is TCP: such a rule allows nothing that Culvert carries. */
function compileRule(
  peers: readonly NetworkPolicyPeerField[] = [],
  ports: readonly NetworkPolicyPort[] = [],
): NetworkPolicyRule[] {
  const tcp = ports.filter(({ protocol }) => protocol === 'TCP');
  if (ports.length > 0 && tcp.length === 0) return [];
  return [{ peers: peers.map(compilePeer), ports: rulePorts(tcp) }];
}

function rulePorts(ports: readonly NetworkPolicyPort[]): RulePort[] {
  if (ports.some(({ port }) => port === undefined)) return [];
  return mergeRulePorts(
    ports.flatMap(({ port, endPort }) => {
      if (port === undefined) return [];
      return typeof port === 'string' ? [port] : [`${port}-${endPort ?? port}`];
    }),
  );
}

function compilePeer({ podSelector, namespaceSelector, ipBlock }: NetworkPolicyPeerField): NetworkPolicyPeer {
  if (ipBlock !== undefined) return { kind: 'block', cidr: ipBlock.cidr, except: ipBlock.except ?? [] };
  return {
    kind: 'pods',
    namespaceSelector: namespaceSelector === undefined ? null : requirementsOf(namespaceSelector),
    podSelector: requirementsOf(podSelector ?? {}),
  };
}

export function requirementsOf({ matchLabels = {}, matchExpressions = [] }: NetworkPolicySelector): LabelRequirement[] {
  const labels = Object.entries(matchLabels).map(([key, value]) => ({ key, operator: 'In' as const, values: [value] }));
  return [...labels, ...matchExpressions.map(({ key, operator, values = [] }) => ({ key, operator, values }))];
}
