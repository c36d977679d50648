import type { HostPort } from '../address.js';
import type { CompiledDestinationRule, DestinationSubset, TrafficPolicy } from '../policy/traffic-documents.js';
import type { ResolveEndpoints, ServiceDestination } from './destination.js';
import { serviceName } from './names.js';
import type { Locality } from './registry-entry.js';
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
};

/** Connections to it are refused; `detail` says why. */
export type MissingTarget = { readonly ok: false; readonly detail: string };

/**
 * What a connection gets that was drawn for a subset of a service (null: for all endpoints): first the VirtualService, then
 * the DestinationRule, as in Istio. `culvert routes` asks it for each destination of a route, an agent for the one it drew.
 */
export function routeTarget(
  { resolve, policies }: { readonly resolve: ResolveEndpoints; readonly policies: TrafficPolicies },
  whole: ServiceDestination,
  connection: SteeredConnection,
  drawn: { readonly route: RouteFound; readonly subset: string } | null,
): RouteTarget | MissingTarget {
  const { service } = whole;
  const { client, dialled, from } = connection;
  const rule = policies.ruleFor(service, client.namespace);
  const policyOf = (subset: DestinationSubset | null): TrafficPolicy | null =>
    rule === null ? null : policyOfRule(rule, dialled.port, subset);
  if (drawn === null) return { ok: true, destination: whole, rule, policy: policyOf(null), subset: null };
  const subset = rule?.subsets?.find(({ name }) => name === drawn.subset);
  if (subset === undefined) {
    const missing = `no DestinationRule has for ${serviceName(service)} and clients of ${client.namespace}`;
    return { ok: false, detail: `${routeText(drawn.route)} names the subset ${drawn.subset}, which ${missing}` };
  }
  const endpoints = resolve(service, dialled, from, subset);
  const destination = { kind: 'service', service, endpoints, subset: subset.name } as const;
  return { ok: true, destination, rule, policy: policyOf(subset), subset };
}

/** `VirtualService/shop/web spec.tcp[1]`, as logs and metrics have it. */
export function routeText({ document, index }: Pick<RouteFound, 'document' | 'index'>): string {
  let texts = textsOfRoutes.get(document);
  if (texts === undefined) textsOfRoutes.set(document, (texts = []));
  return (texts[index] ??= `VirtualService/${document.namespace}/${document.name} spec.tcp[${index}]`);
}

/** Each connection asks. */
const textsOfRoutes = new WeakMap<RouteFound['document'], string[]>();
