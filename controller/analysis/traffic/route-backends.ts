import type { HostPort } from '../../../shared/address.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import type { WeightedSubset } from '../../../shared/policy/traffic-documents.js';
import { resolveService, servedPort, type Endpoint } from '../../../shared/routing/destination.js';
import type { ServiceName } from '../../../shared/routing/names.js';
import type { Locality, RegistryService } from '../../../shared/routing/registry-entry.js';
import type { RegistryView } from '../../../shared/routing/registry-view.js';
import { serviceHost } from '../../../shared/routing/service-hosts.js';
import { choiceText, routeText } from '../../../shared/routing/steering.js';
import { TrafficPolicies } from '../../../shared/routing/traffic-policies.js';

/** What decides which route is for a client. */
type Client = { readonly namespace: string; readonly labels: Readonly<Record<string, string>> };

/** An endpoint of another service than the one that is dialled, and what leads connections there. */
export type BackendEndpoint = Endpoint & {
  /** `TCPRoute/shop/web spec.rules[0]`. */
  readonly route: string;
  /** `shop/web-v2:80`. */
  readonly backend: string;
  /** The same, for questions about it. */
  readonly led: { readonly service: RegistryService; readonly port: number };
};

const known = new WeakMap<Snapshot, TrafficPolicies>();

/** Kept as long as the snapshot is: thousands of assertions ask about the same one. */
function policiesOf(snapshot: Snapshot): TrafficPolicies {
  const policies = known.get(snapshot) ?? new TrafficPolicies(snapshot);
  known.set(snapshot, policies);
  return policies;
}

/**
 * The endpoints of other services that connections of a client to `dialled`, an address of a service, may be led to, with any
 * weight. `from`: where the client is; null: wherever.
 */
export function backendEndpoints(
  { snapshot, registry }: { readonly snapshot: Snapshot; readonly registry: RegistryView },
  service: RegistryService,
  { client, dialled, from }: { readonly client: Client; readonly dialled: HostPort; readonly from: Locality | null },
): BackendEndpoint[] {
  const route = policiesOf(snapshot).routeFor(service, { client, dialled });
  if (route === null) return [];
  const backends = new Map<string, WeightedSubset>();
  for (const choice of route.choices) {
    const text = choice.backend?.invalid === undefined ? choiceText(choice) : null;
    if (choice.backend !== undefined && text !== null) backends.set(text, choice);
  }
  return [...backends].flatMap(([backend, choice]) => {
    const led = serviceOf(registry, choice);
    if (led === null) return [];
    return endpointsOf(led, { registry, dialled, from }).map((endpoint) => ({
      ...endpoint,
      route: routeText(route),
      backend,
      led,
    }));
  });
}

/** Null: it leads to no service that serves the port. */
export function serviceOf(
  registry: RegistryView,
  { backend }: WeightedSubset,
): { readonly service: RegistryService; readonly port: number } | null {
  if (backend === undefined || backend.invalid !== undefined || backend.port === null) return null;
  const service = registry.service(backend.service as ServiceName);
  if (service === undefined || servedPort(service, backend.port) === undefined) return null;
  return { service, port: backend.port };
}

function endpointsOf(
  { service, port }: BackendEndpoint['led'],
  {
    registry,
    dialled,
    from,
  }: { readonly registry: RegistryView; readonly dialled: HostPort; readonly from: Locality | null },
): readonly Endpoint[] {
  return resolveService(registry, service, { ip: dialled.ip, port }, from);
}

/**
 * Backends of all routes for a service, each with whether it is for a client: for questions that name the destination before the
 * source.
 */
export function possibleBackends(
  set: { readonly snapshot: Snapshot; readonly registry: RegistryView },
  service: RegistryService,
  dialled: HostPort,
): readonly { readonly endpoint: Endpoint; readonly isFor: (client: Client) => boolean }[] {
  const policies = policiesOf(set.snapshot);
  const choices = new Map<string, WeightedSubset>();
  const host = serviceHost(service);
  for (const { routes } of (set.snapshot.virtualServices ?? []).filter((document) => document.host === host)) {
    for (const choice of routes.flatMap((route) => route.choices)) {
      const text = choice.backend?.invalid === undefined ? choiceText(choice) : null;
      if (choice.backend !== undefined && text !== null) choices.set(text, choice);
    }
  }
  return [...choices].flatMap(([text, choice]) => {
    const isFor = (client: Client): boolean =>
      policies
        .routeFor(service, { client, dialled })
        ?.choices.some((each) => each.backend?.invalid === undefined && choiceText(each) === text) ?? false;
    const led = serviceOf(set.registry, choice);
    const { registry } = set;
    return led === null
      ? []
      : endpointsOf(led, { registry, dialled, from: null }).map((endpoint) => ({ endpoint, isFor }));
  });
}
