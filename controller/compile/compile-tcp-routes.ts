import type {
  CompiledVirtualService,
  RouteBackend,
  TrafficRoute,
  WeightedSubset,
} from '../../shared/policy/traffic-documents.js';
import { DocumentsByHost } from '../../shared/routing/documents-by-host.js';
import { serviceHost } from '../../shared/routing/service-hosts.js';
import { routeText } from '../../shared/routing/steering.js';
import { gatewayApiGroup } from '../resources/kinds/gateway-api.js';
import { parseInstant } from '../resources/kinds/instant.js';
import type { ReferenceGrant } from '../resources/kinds/reference-grant.js';
import type { TcpRoute } from '../resources/kinds/tcp-route.js';
import { byNamespaceAndName } from './compile-authorization.js';

type BackendRef = TcpRoute['spec']['rules'][number]['backendRefs'][number];
/** One parent of a route. `port` null: all of the service. */
type Attached = { readonly route: TcpRoute; readonly port: number | null };
type Group = {
  readonly namespace: string;
  readonly service: { readonly namespace: string; readonly name: string };
  readonly attached: Attached[];
};

/**
 * Compiles TCPRoutes to documents as VirtualServices are, one for each namespace and service that its routes name. In another
 * namespace than the service they are for clients there alone, and where none of them is for a port, what would count without
 * them does. Sorted by namespace and name.
 */
export function compileTcpRoutes(
  routes: readonly TcpRoute[],
  others: {
    readonly grants: readonly ReferenceGrant[];
    readonly virtualServices: readonly CompiledVirtualService[];
    readonly rootNamespace: string;
  },
): CompiledVirtualService[] {
  if (routes.length === 0) return [];
  const groups = groupsOf(routes);
  const isProducer = ({ namespace, service }: Group): boolean => namespace === service.namespace;
  const compile = (group: Group): CompiledVirtualService => compileGroup(group, others.grants);
  const producers = groups.filter(isProducer).map(compile);
  const documents = [...others.virtualServices, ...producers];
  const without = new DocumentsByHost({ documents, rootNamespace: others.rootNamespace });
  const consumers = groups
    .filter((group) => !isProducer(group))
    .map((group) => {
      const { namespace } = group;
      const document = compile(group);
      return {
        ...document,
        exportTo: [namespace],
        routes: [...document.routes, ...routesOf(without.find(group.service, namespace))],
      };
    });
  return [...producers, ...consumers].sort(byNamespaceAndName);
}

/** The routes of a document as another one has them. */
function routesOf(document: CompiledVirtualService | null): TrafficRoute[] {
  if (document === null) return [];
  return document.routes.map((route, index) => ({ ...route, origin: routeText({ document, index }) }));
}

function groupsOf(routes: readonly TcpRoute[]): Group[] {
  const groups = new Map<string, Group>();
  for (const route of routes) {
    const { namespace } = route.metadata;
    for (const { namespace: of = namespace, name, port = null } of route.spec.parentRefs) {
      const service = { namespace: of, name };
      const key = `${namespace} ${serviceHost(service)}`;
      const group = groups.get(key) ?? { namespace, service, attached: [] };
      groups.set(key, group);
      group.attached.push({ route, port });
    }
  }
  return [...groups.values()];
}

function compileGroup(
  { namespace, service, attached }: Group,
  grants: readonly ReferenceGrant[],
): CompiledVirtualService {
  const inOrder = attached.sort(comesBefore);
  return {
    namespace,
    name: inOrder[0]?.route.metadata.name ?? service.name,
    host: serviceHost(service),
    routes: inOrder.map(({ route, port }) => ({
      origin: originOf(route),
      matches: port === null ? [] : [{ port }],
      choices: choicesOf(route, grants),
    })),
  };
}

/** `TCPRoute/shop/web spec.rules[0]`, as logs have it. */
function originOf({ metadata: { namespace, name } }: TcpRoute): string {
  return `TCPRoute/${namespace}/${name} spec.rules[0]`;
}

/** What names the port is before what is for all; then as the Gateway API says: the oldest, then by name. */
function comesBefore(a: Attached, b: Attached): number {
  if ((a.port === null) !== (b.port === null)) return a.port === null ? 1 : -1;
  const [older, younger] = [madeAtMs(a.route), madeAtMs(b.route)];
  if (older !== younger) return older < younger ? -1 : 1;
  return a.route.metadata.name < b.route.metadata.name ? -1 : 1;
}

/** What no cluster made is younger than what one made. */
function madeAtMs({ metadata: { creationTimestamp } }: TcpRoute): number {
  return (creationTimestamp === undefined ? undefined : parseInstant(creationTimestamp)) ?? Number.POSITIVE_INFINITY;
}

/** Without any weight all connections are refused, as the Gateway API says of a share that has no backend. */
function choicesOf(route: TcpRoute, grants: readonly ReferenceGrant[]): WeightedSubset[] {
  const choices = (route.spec.rules[0]?.backendRefs ?? []).map((ref) => ({
    subset: null,
    weight: ref.weight ?? 1,
    backend: backendOf(route, ref, grants),
  }));
  if (choices.some(({ weight }) => weight > 0)) return choices;
  const invalid = 'none of its backends has a weight above 0';
  return choices.map(({ subset, backend }) => ({ subset, weight: 1, backend: { ...backend, invalid } }));
}

function backendOf({ metadata }: TcpRoute, ref: BackendRef, grants: readonly ReferenceGrant[]): RouteBackend {
  const { namespace = metadata.namespace, name, port = null } = ref;
  const invalid = invalidBackend(metadata.namespace, ref, grants);
  return { service: `${namespace}/${name}`, port, ...(invalid === null ? {} : { invalid }) };
}

/** Why connections to a backend of a route in `from` are refused, as far as documents say; null: they are not. */
export function invalidBackend(from: string, ref: BackendRef, grants: readonly ReferenceGrant[]): string | null {
  const { group = '', kind = 'Service', namespace = from, name } = ref;
  if (group !== '' || kind !== 'Service') {
    return `it is a ${kind}${group === '' ? '' : ` of ${group}`}, and backends are Services`;
  }
  if (namespace === from || grants.some((grant) => isGranted(grant, { from, namespace, name }))) return null;
  return `no ReferenceGrant in ${namespace} lets a TCPRoute of ${from} name it`;
}

function isGranted(
  { metadata, spec }: ReferenceGrant,
  wanted: { readonly from: string; readonly namespace: string; readonly name: string },
): boolean {
  if (metadata.namespace !== wanted.namespace) return false;
  const isFrom = spec.from.some(
    ({ group, kind, namespace }) => group === gatewayApiGroup && kind === 'TCPRoute' && namespace === wanted.from,
  );
  if (!isFrom) return false;
  return spec.to.some(
    ({ group, kind, name = wanted.name }) => group === '' && kind === 'Service' && name === wanted.name,
  );
}
