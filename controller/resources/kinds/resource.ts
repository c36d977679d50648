import type { z } from 'zod';
import {
  adminNetworkPolicyApiVersion,
  adminNetworkPolicySchema,
  baselineAdminNetworkPolicySchema,
  type AdminNetworkPolicy,
  type BaselineAdminNetworkPolicy,
} from './admin-network-policy.js';
import {
  authorizationPolicySchema,
  istioSecurityApiVersions,
  type AuthorizationPolicy,
} from './authorization-policy.js';
import {
  clusterNetworkPolicyApiVersion,
  clusterNetworkPolicySchema,
  type ClusterNetworkPolicy,
} from './cluster-network-policy.js';
import { destinationRuleSchema, type DestinationRule } from './destination-rule.js';
import { meshSchema, type Mesh } from './mesh.js';
import { culvertApiVersion } from './metadata.js';
import { namespaceSchema, type Namespace } from './namespace.js';
import { kubernetesNetworkingApiVersion, networkPolicySchema, type NetworkPolicy } from './network-policy.js';
import { peerAuthenticationSchema, type PeerAuthentication } from './peer-authentication.js';
import { rateLimitSchema, type RateLimit } from './rate-limit.js';
import { referenceGrantApiVersions, referenceGrantSchema, type ReferenceGrant } from './reference-grant.js';
import { segmentSchema, type Segment } from './segment.js';
import { segmentationRuleSchema, type SegmentationRule } from './segmentation-rule.js';
import { serviceSchema, type Service } from './service.js';
import { istioNetworkingApiVersions, serviceEntrySchema, type ServiceEntry } from './service-entry.js';
import { tcpRouteApiVersions, tcpRouteSchema, type TcpRoute } from './tcp-route.js';
import { virtualServiceSchema, type VirtualService } from './virtual-service.js';
import { workloadSchema, type Workload } from './workload.js';

/**
 * A resource as users write it in YAML and the controller stores it in `culvert_config`. Plain JSON, with defaults
 * filled in.
 */
export type Resource =
  | Mesh
  | Namespace
  | Workload
  | Service
  | ServiceEntry
  | DestinationRule
  | VirtualService
  | RateLimit
  | TcpRoute
  | ReferenceGrant
  | Segment
  | SegmentationRule
  | AuthorizationPolicy
  | PeerAuthentication
  | NetworkPolicy
  | ClusterNetworkPolicy
  | AdminNetworkPolicy
  | BaselineAdminNetworkPolicy;
export type ResourceKind = Resource['kind'];

type KindInfo = {
  readonly schema: z.ZodType<Resource>;
  readonly isNamespaced: boolean;
  readonly apiVersions: readonly string[];
  /** Aliases on the command line, lower case. */
  readonly aliases: readonly string[];
};

const culvertOnly = [culvertApiVersion] as const;

const resourceKinds = {
  Mesh: { schema: meshSchema, isNamespaced: false, apiVersions: culvertOnly, aliases: ['meshes'] },
  Namespace: {
    schema: namespaceSchema,
    isNamespaced: false,
    apiVersions: [culvertApiVersion, 'v1'],
    aliases: ['namespaces', 'ns'],
  },
  Workload: { schema: workloadSchema, isNamespaced: true, apiVersions: culvertOnly, aliases: ['workloads', 'wl'] },
  Service: { schema: serviceSchema, isNamespaced: true, apiVersions: culvertOnly, aliases: ['services', 'svc'] },
  ServiceEntry: {
    schema: serviceEntrySchema,
    isNamespaced: true,
    apiVersions: [culvertApiVersion, ...istioNetworkingApiVersions],
    aliases: ['serviceentries', 'se'],
  },
  DestinationRule: {
    schema: destinationRuleSchema,
    isNamespaced: true,
    apiVersions: [culvertApiVersion, ...istioNetworkingApiVersions],
    aliases: ['destinationrules', 'dr'],
  },
  VirtualService: {
    schema: virtualServiceSchema,
    isNamespaced: true,
    apiVersions: [culvertApiVersion, ...istioNetworkingApiVersions],
    aliases: ['virtualservices', 'vs'],
  },
  RateLimit: {
    schema: rateLimitSchema,
    isNamespaced: true,
    apiVersions: culvertOnly,
    aliases: ['ratelimits', 'rl'],
  },
  TCPRoute: {
    schema: tcpRouteSchema,
    isNamespaced: true,
    apiVersions: tcpRouteApiVersions,
    aliases: ['tcproutes', 'tcp'],
  },
  ReferenceGrant: {
    schema: referenceGrantSchema,
    isNamespaced: true,
    apiVersions: referenceGrantApiVersions,
    aliases: ['referencegrants', 'refgrant'],
  },
  Segment: { schema: segmentSchema, isNamespaced: false, apiVersions: culvertOnly, aliases: ['segments', 'seg'] },
  SegmentationRule: {
    schema: segmentationRuleSchema,
    isNamespaced: false,
    apiVersions: culvertOnly,
    aliases: ['segmentationrules', 'rule', 'rules', 'sr'],
  },
  AuthorizationPolicy: {
    schema: authorizationPolicySchema,
    isNamespaced: true,
    apiVersions: [culvertApiVersion, ...istioSecurityApiVersions],
    aliases: ['authorizationpolicies', 'ap', 'authz'],
  },
  PeerAuthentication: {
    schema: peerAuthenticationSchema,
    isNamespaced: true,
    apiVersions: [culvertApiVersion, ...istioSecurityApiVersions],
    aliases: ['peerauthentications', 'pa'],
  },
  NetworkPolicy: {
    schema: networkPolicySchema,
    isNamespaced: true,
    apiVersions: [kubernetesNetworkingApiVersion],
    aliases: ['networkpolicies', 'netpol', 'np'],
  },
  ClusterNetworkPolicy: {
    schema: clusterNetworkPolicySchema,
    isNamespaced: false,
    apiVersions: [clusterNetworkPolicyApiVersion],
    aliases: ['clusternetworkpolicies', 'cnp'],
  },
  AdminNetworkPolicy: {
    schema: adminNetworkPolicySchema,
    isNamespaced: false,
    apiVersions: [adminNetworkPolicyApiVersion],
    aliases: ['adminnetworkpolicies', 'anp'],
  },
  BaselineAdminNetworkPolicy: {
    schema: baselineAdminNetworkPolicySchema,
    isNamespaced: false,
    apiVersions: [adminNetworkPolicyApiVersion],
    aliases: ['baselineadminnetworkpolicies', 'banp'],
  },
} as const satisfies Record<ResourceKind, KindInfo>;

export const kindNames = Object.keys(resourceKinds) as readonly ResourceKind[];

export function isResourceKind(text: string): text is ResourceKind {
  return Object.hasOwn(resourceKinds, text);
}

export function kindInfo(kind: ResourceKind): KindInfo {
  return resourceKinds[kind];
}

/** The kind for `workload`, `Workloads` or `wl`; undefined: unknown. */
export function findKind(text: string): ResourceKind | undefined {
  const word = text.toLowerCase();
  return kindNames.find((kind) => kind.toLowerCase() === word || kindInfo(kind).aliases.includes(word));
}
