import { parseSpiffeId } from '../../../shared/identity.js';
import { completeHost, serviceOfHost } from '../../../shared/routing/service-hosts.js';
import { serviceAccountName } from '../../../shared/routing/names.js';
import type { AuthorizationPolicy } from '../../resources/kinds/authorization-policy.js';
import { writtenField, type Peer } from '../../resources/kinds/peer.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { TcpRoute } from '../../resources/kinds/tcp-route.js';
import type { ReferencedName } from '../../resources/match/peer-field.js';
import { missingAccount, peerFieldNames } from '../../resources/match/peer-fields.js';

/** The name of something else in a document. */
export type Reference = {
  readonly path: readonly PropertyKey[];
  readonly to: ReferencedName;
  /** `namespace/name`. */
  readonly written: string;
  /** What to say when there is none of this name. */
  readonly missing: string;
};

/**
 * The workloads, accounts and services that a rule or a segment names. `trustDomain`: of the mesh, whose principals are
 * accounts; undefined: only those in `cluster.local` are.
 */
export function* referencesIn(resource: Resource, trustDomain: string | undefined): Generator<Reference> {
  switch (resource.kind) {
    case 'SegmentationRule':
      yield* ofPeers(resource.spec.from, ['spec', 'from']);
      yield* ofPeers(resource.spec.to, ['spec', 'to']);
      return;
    case 'Segment':
      yield* ofPeers(resource.spec.members, ['spec', 'members']);
      return;
    case 'AuthorizationPolicy':
      yield* ofPolicy(resource, trustDomain);
      return;
    case 'DestinationRule':
      yield* ofHost(resource.spec.host, resource.metadata.namespace, ['spec', 'host']);
      return;
    case 'VirtualService':
      yield* ofHost(resource.spec.hosts[0] ?? '', resource.metadata.namespace, ['spec', 'hosts', 0]);
      return;
    case 'RateLimit':
      yield* ofHost(resource.spec.host, resource.metadata.namespace, ['spec', 'host']);
      for (const [index, { serviceAccount }] of (resource.spec.from ?? []).entries()) {
        if (serviceAccount !== undefined) yield toAccount(serviceAccount, ['spec', 'from', index, 'serviceAccount']);
      }
      return;
    case 'TCPRoute':
      yield* ofRoute(resource);
      return;
    default:
  }
}

/** The services of which a route says where connections go, and those to which they go. */
function* ofRoute({ metadata, spec }: TcpRoute): Generator<Reference> {
  const own = metadata.namespace;
  const reference = (path: readonly PropertyKey[], namespace: string, name: string): Reference => {
    const written = `${namespace}/${name}`;
    return { path: ['spec', ...path, 'name'], to: 'service', written, missing: `there is no Service ${written}` };
  };
  for (const [index, { namespace = own, name }] of spec.parentRefs.entries())
    yield reference(['parentRefs', index], namespace, name);
  for (const [index, { group = '', kind = 'Service', namespace = own, name }] of (
    spec.rules[0]?.backendRefs ?? []
  ).entries()) {
    if (group === '' && kind === 'Service') yield reference(['rules', 0, 'backendRefs', index], namespace, name);
  }
}

function* ofPeers(peers: readonly Peer[] = [], path: readonly PropertyKey[]): Generator<Reference> {
  for (const [index, peer] of peers.entries()) {
    for (const field of peerFieldNames) {
      const found = writtenField(field, peer);
      const reference = found?.document.reference;
      if (reference === undefined || reference === null || typeof found?.written !== 'string') continue;
      const { written, document } = found;
      yield { path: [...path, index, document.name], to: reference.to, written, missing: reference.missing(written) };
    }
  }
}

/** A wildcard names no service. */
function* ofHost(text: string, namespace: string, path: readonly PropertyKey[]): Generator<Reference> {
  const host = completeHost(text, namespace);
  const written = host === undefined ? undefined : serviceOfHost(host);
  if (written === undefined) return;
  yield { path, to: 'service', written, missing: `there is no Service ${written}` };
}

function* ofPolicy({ metadata, spec }: AuthorizationPolicy, trustDomain: string | undefined): Generator<Reference> {
  function* accounts(names: readonly string[] | undefined, path: readonly PropertyKey[]): Generator<Reference> {
    for (const [index, name] of (names ?? []).entries()) {
      const { namespace } = metadata;
      const written = name.includes('/') ? name : serviceAccountName({ namespace, serviceAccount: name });
      yield toAccount(written, [...path, index]);
    }
  }
  function* principals(names: readonly string[] | undefined, path: readonly PropertyKey[]): Generator<Reference> {
    for (const [index, name] of (names ?? []).entries()) {
      const identity = parseSpiffeId(`spiffe://${name}`);
      if (identity === undefined || !['cluster.local', trustDomain].includes(identity.trustDomain)) continue;
      yield toAccount(serviceAccountName(identity), [...path, index]);
    }
  }
  for (const [ruleIndex, { from = [], when = [] }] of (spec.rules ?? []).entries()) {
    const path = ['spec', 'rules', ruleIndex];
    for (const [index, { source }] of from.entries()) {
      const at = [...path, 'from', index, 'source'];
      for (const field of ['serviceAccounts', 'notServiceAccounts'] as const) {
        yield* accounts(source[field], [...at, field]);
      }
      for (const field of ['principals', 'notPrincipals'] as const) yield* principals(source[field], [...at, field]);
    }
    for (const [index, condition] of when.entries()) {
      const inCondition = conditions[condition.key];
      if (inCondition === undefined) continue;
      const read = inCondition === 'accounts' ? accounts : principals;
      for (const field of ['values', 'notValues'] as const)
        yield* read(condition[field], [...path, 'when', index, field]);
    }
  }
}

/** Keys of conditions whose values name accounts. */
const conditions: Readonly<Record<string, 'accounts' | 'principals'>> = {
  'source.serviceAccount': 'accounts',
  'source.principal': 'principals',
};

function toAccount(written: string, path: readonly PropertyKey[]): Reference {
  return { path, to: 'service account', written, missing: missingAccount(written) };
}
