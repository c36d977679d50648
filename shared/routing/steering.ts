import type { HostPort } from '../address.js';
import type {
  CompiledDestinationRule,
  DestinationSubset,
  RouteBackend,
  TrafficPolicy,
  WeightedSubset,
} from '../policy/traffic-documents.js';
import { servedPort, type ResolveEndpoints, type ServiceDestination } from './destination.js';
import { serviceName, type ServiceName } from './names.js';
import type { Locality } from './registry-entry.js';
import type { RegistryView } from './registry-view.js';
import { policyOfRule, type TrafficPolicies } from './traffic-policies.js';
import type { RouteFound } from './traffic-routes.js';

/** A connection to a service, as far as documents about traffic may ask. `from`: where the client is; null: not known. */
export type SteeredConnection = {
  readonly client: { readonly namespace: string; readonly labels: Readonly<Record<string, string>> };
  readonly dialled: HostPort;
  readonly from: Locality | null;
};

/** One destination that a route leads to. `rule` and `policy` null: no DestinationRule is for it. */
export type RouteTarget = {
  readonly ok: true;
  readonly destination: ServiceDestination;
  readonly rule: CompiledDestinationRule | null;
  readonly policy: TrafficPolicy | null;
  readonly subset: DestinationSubset | null;
  /** By which its endpoints are found: the dialled address, and the port of the service of `destination`. */
  readonly at: HostPort;
};

/** Connections to it are refused; `detail` says why. */
export type MissingTarget = { readonly ok: false; readonly detail: string };

/** Where endpoints, services and documents are asked for. */
type Known = {
  readonly resolve: ResolveEndpoints;
  readonly registry: Pick<RegistryView, 'service'>;
  readonly policies: TrafficPolicies;
};

/** One choice of a route. */
type Drawn = { readonly route: RouteFound; readonly choice: WeightedSubset };

/**
 * What a connection gets that was drawn for a choice of a route (null: no route leads it): first the route, then the
 * DestinationRule, as in Istio; of another service that of this one. `culvert routes` asks it for each destination of a route, an
 * agent for the one it drew.
 */
export function routeTarget(
  known: Known,
  whole: ServiceDestination,
  connection: SteeredConnection,
  drawn: Drawn | null,
): RouteTarget | MissingTarget {
  const backend = drawn?.choice.backend;
  if (drawn !== null && backend !== undefined) return backendTarget(known, connection, drawn, backend);
  return targetOf(known, whole, connection, drawn);
}

/** Another service has routes too; they are for those that dial it. Source: Gateway API, GEP-1294. */
function backendTarget(
  known: Known,
  connection: SteeredConnection,
  { route, choice }: Drawn,
  { service: name, port, invalid }: RouteBackend,
): RouteTarget | MissingTarget {
  const refuse = (why: string): MissingTarget => ({ ok: false, detail: `${routeText(route)} ${why}` });
  if (invalid !== undefined || port === null) return refuse(`leads to ${name}: ${invalid ?? 'it has no port'}`);
  const service = known.registry.service(name as ServiceName);
  if (service === undefined) return refuse(`leads to ${name}: there is no such service`);
  if (servedPort(service, port) === undefined) return refuse(`leads to ${name}: it has no port ${port}`);
  const dialled = { ip: connection.dialled.ip, port };
  const endpoints = known.resolve(service, dialled, connection.from);
  const drawn = choice.subset === null ? null : { route, choice };
  return targetOf(known, { kind: 'service', service, endpoints }, { ...connection, dialled }, drawn);
}

function targetOf(
  { resolve, policies }: Known,
  whole: ServiceDestination,
  { client, dialled, from }: SteeredConnection,
  drawn: Drawn | null,
): RouteTarget | MissingTarget {
  const { service } = whole;
  const rule = policies.ruleFor(service, client.namespace);
  const policyOf = (subset: DestinationSubset | null): TrafficPolicy | null =>
    rule === null ? null : policyOfRule(rule, dialled.port, subset);
  const name = drawn?.choice.subset ?? null;
  if (drawn === null || name === null) {
    return { ok: true, destination: whole, rule, policy: policyOf(null), subset: null, at: dialled };
  }
  const subset = rule?.subsets?.find((each) => each.name === name);
  if (subset === undefined) {
    const missing = `no DestinationRule has for ${serviceName(service)} and clients of ${client.namespace}`;
    return { ok: false, detail: `${routeText(drawn.route)} names the subset ${name}, which ${missing}` };
  }
  const endpoints = resolve(service, dialled, from, subset);
  const destination = { kind: 'service', service, endpoints, subset: subset.name } as const;
  return { ok: true, destination, rule, policy: policyOf(subset), subset, at: dialled };
}

/** `v2` for a subset, `shop/web-v2:80` for another service; null: all endpoints of the service that was dialled. */
export function choiceText({ subset, backend }: Pick<WeightedSubset, 'subset' | 'backend'>): string | null {
  if (backend === undefined) return subset;
  return backend.port === null ? backend.service : `${backend.service}:${backend.port}`;
}

/** `VirtualService/shop/web spec.tcp[1]`, or `TCPRoute/shop/web spec.rules[0]`, as logs and metrics have it. */
export function routeText({ document, index }: Pick<RouteFound, 'document' | 'index'>): string {
  let texts = textsOfRoutes.get(document);
  if (texts === undefined) textsOfRoutes.set(document, (texts = []));
  return (texts[index] ??=
    document.routes[index]?.origin ?? `VirtualService/${document.namespace}/${document.name} spec.tcp[${index}]`);
}

/** Each connection asks. */
const textsOfRoutes = new WeakMap<RouteFound['document'], string[]>();
