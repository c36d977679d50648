import type { ResourceKind } from './resource.js';
import { clusterNetworkPolicyApiVersion } from './cluster-network-policy.js';
import { kubernetesNetworkingApiVersion } from './network-policy.js';
import { referenceGrantApiVersions } from './reference-grant.js';
import { istioNetworkingApiVersions } from './service-entry.js';
import { tcpRouteApiVersions } from './tcp-route.js';

/** A kind of Kubernetes, its Gateway API or Istio whose objects a controller takes from a cluster when it is asked to. */
export type ForeignKind = {
  readonly kind: ResourceKind;
  /** `GROUP/VERSION`, or the version alone where there is no group: as which its objects are read. */
  readonly apiVersion: string;
  /** Where a cluster of an earlier release has the same objects, in the order in which they are asked for. */
  readonly earlierApiVersions?: readonly string[];
  readonly plural: string;
  /** The API server has it without a CustomResourceDefinition. */
  readonly isBuiltIn: boolean;
};

const istioSecurity = 'security.istio.io/v1';
const [istioNetworking, ...earlierNetworking] = istioNetworkingApiVersions;
const [tcpRoute, ...earlierTcpRoutes] = tcpRouteApiVersions;
const [referenceGrant, ...earlierGrants] = referenceGrantApiVersions;

function istioRouting(kind: ResourceKind, plural: string): ForeignKind {
  return { kind, apiVersion: istioNetworking, earlierApiVersions: earlierNetworking, plural, isBuiltIn: false };
}

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
  istioRouting('ServiceEntry', 'serviceentries'),
  istioRouting('VirtualService', 'virtualservices'),
  istioRouting('DestinationRule', 'destinationrules'),
  {
    kind: 'TCPRoute',
    apiVersion: tcpRoute,
    earlierApiVersions: earlierTcpRoutes,
    plural: 'tcproutes',
    isBuiltIn: false,
  },
  {
    kind: 'ReferenceGrant',
    apiVersion: referenceGrant,
    earlierApiVersions: earlierGrants,
    plural: 'referencegrants',
    isBuiltIn: false,
  },
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
