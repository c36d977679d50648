import { atOnce } from '../../shared/in-turns.js';
import { defaultMesh, type Mesh } from '../resources/kinds/mesh.js';
import type { Namespace } from '../resources/kinds/namespace.js';
import { ProblemList } from '../resources/parse/problem-list.js';
import type { Problem } from '../resources/kinds/problem.js';
import type { Resource } from '../resources/kinds/resource.js';
import { byNamespaceAndName, compileAuthorization } from './compile-authorization.js';
import { compileClusterPolicies, isClusterPolicy } from './compile-cluster-policies.js';
import { compileDestinationRules } from './compile-destination-rules.js';
import { compileRateLimits } from './compile-rate-limits.js';
import { compileTcpRoutes } from './compile-tcp-routes.js';
import { compileVirtualServices } from './compile-virtual-services.js';
import { compileExternals } from './compile-externals.js';
import { compileNetworkPolicies } from './compile-network-policies.js';
import { compilePeerAuthentications } from './compile-peer-authentications.js';
import { compilingRules } from './compile-rules.js';
import { namespaceNameLabel } from '../../shared/policy/prepared/namespace-labels.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';

type Compiled = { readonly snapshot: Snapshot } | { readonly problems: readonly Problem[] };

export type SnapshotMeta = Pick<Snapshot, 'revision' | 'createdAt' | 'createdBy' | 'trustDomain'>;

/**
 * Compiles a whole set of resources. The result does not depend on their order. Problems are missing and circular
 * segments; run `validateSet` first, which finds these and more.
 */
export function compileSnapshot(resources: readonly Resource[], meta: SnapshotMeta): Compiled {
  return atOnce(compilingSnapshot(resources, meta));
}

/** {@link compileSnapshot} in steps, a rule each. */
export function* compilingSnapshot(resources: readonly Resource[], meta: SnapshotMeta): Generator<void, Compiled> {
  const problems = new ProblemList({ locations: new Map() });
  const { rules, segments } = yield* compilingRules(resources, problems);
  yield;
  if (problems.errors.length > 0) return { problems: problems.errors };
  const settings: Mesh['spec'] = resources.find((resource) => resource.kind === 'Mesh')?.spec ?? defaultMesh;
  const mesh = { ...settings, outbound: settings.outbound ?? settings.defaultAction };
  const { revision, createdAt, createdBy, trustDomain } = meta;
  const ofKind = <K extends Resource['kind']>(kind: K) =>
    resources.filter((resource): resource is Extract<Resource, { kind: K }> => resource.kind === kind);
  const clusterPolicies = compileClusterPolicies(resources.filter(isClusterPolicy));
  const destinationRules = compileDestinationRules(ofKind('DestinationRule'));
  const ofIstio = compileVirtualServices(ofKind('VirtualService'));
  const grants = ofKind('ReferenceGrant');
  const ofGatewayApi = compileTcpRoutes(ofKind('TCPRoute'), { grants, virtualServices: ofIstio, ...settings });
  const virtualServices = [...ofIstio, ...ofGatewayApi].sort(byNamespaceAndName);
  const rateLimits = compileRateLimits(ofKind('RateLimit'));
  const snapshot: Snapshot = {
    revision,
    createdAt,
    createdBy,
    trustDomain,
    mesh,
    ...(segments.length === 0 ? {} : { segments }),
    rules,
    authorizationPolicies: compileAuthorization(ofKind('AuthorizationPolicy'), trustDomain),
    networkPolicies: compileNetworkPolicies(ofKind('NetworkPolicy')),
    peerAuthentications: compilePeerAuthentications(ofKind('PeerAuthentication')),
    ...(clusterPolicies.length === 0 ? {} : { clusterPolicies }),
    externals: compileExternals(ofKind('ServiceEntry')),
    namespaces: namespaceLabels(ofKind('Namespace')),
    ...(destinationRules.length === 0 ? {} : { destinationRules }),
    ...(virtualServices.length === 0 ? {} : { virtualServices }),
    ...(rateLimits.length === 0 ? {} : { rateLimits }),
  };
  return { snapshot };
}

function namespaceLabels(namespaces: readonly Namespace[]): Snapshot['namespaces'] {
  const sorted = [...namespaces].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  return Object.fromEntries(
    sorted.map(({ metadata: { name, labels = {} } }) => {
      const { [namespaceNameLabel]: _, ...written } = labels;
      return [name, written];
    }),
  );
}
