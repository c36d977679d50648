import type { ResourceKind } from './resource.js';
import { clusterNetworkPolicyApiVersion } from './cluster-network-policy.js';
import { kubernetesNetworkingApiVersion } from './network-policy.js';

/** A kind of Kubernetes or Istio whose objects a controller takes from a cluster as rules, when it is asked to. */
export type ForeignKind = {
  readonly kind: ResourceKind;
  /** `GROUP/VERSION`, or the version alone where there is no group. */
  readonly apiVersion: string;
  readonly plural: string;
  /** The API server has it without a CustomResourceDefinition. */
  readonly isBuiltIn: boolean;
};

const istioSecurity = 'security.istio.io/v1';
const istioNetworking = 'networking.istio.io/v1';

export const foreignKinds: readonly ForeignKind[] = [
  {
    kind: 'NetworkPolicy',
    apiVersion: kubernetesNetworkingApiVersion,
    plural: 'networkpolicies',
    isBuiltIn: true,
  },
  {
    kind: 'ClusterNetworkPolicy',
    apiVersion: clusterNetworkPolicyApiVersion,
    plural: 'clusternetworkpolicies',
    isBuiltIn: false,
  },
  { kind: 'AuthorizationPolicy', apiVersion: istioSecurity, plural: 'authorizationpolicies', isBuiltIn: false },
  { kind: 'PeerAuthentication', apiVersion: istioSecurity, plural: 'peerauthentications', isBuiltIn: false },
  { kind: 'ServiceEntry', apiVersion: istioNetworking, plural: 'serviceentries', isBuiltIn: false },
  { kind: 'Namespace', apiVersion: 'v1', plural: 'namespaces', isBuiltIn: true },
];

/** The API group of a kind; empty: the core one. */
export function groupOf({ apiVersion }: Pick<ForeignKind, 'apiVersion'>): string {
  return apiVersion.includes('/') ? (apiVersion.split('/', 1)[0] ?? '') : '';
}

/** Name of the CustomResourceDefinition; null: it has none. */
export function foreignDefinition(kind: ForeignKind): string | null {
  return kind.isBuiltIn ? null : `${kind.plural}.${groupOf(kind)}`;
}
