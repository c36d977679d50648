import { isIpv6, type HostPort, type IpAddress } from '../address.js';
import type { DestinationSubset } from '../policy/traffic-documents.js';
import { localityOf } from './locality.js';
import { nearestOf } from './nearest.js';
import type { Locality, RegistryService, ServicePort, WorkloadEntry } from './registry-entry.js';
import type { RegistryView } from './registry-view.js';

/** One place where a connection can end. `workload` null: the address is outside the mesh. */
export type Endpoint = { readonly workload: WorkloadEntry | null; readonly address: HostPort };
/** An endpoint in the mesh: the workload, at one of its addresses and the port of its application. */
export type WorkloadEndpoint = Endpoint & { readonly workload: WorkloadEntry };

/** `subset`: the endpoints are only those of this one; absent: all. */
export type ServiceDestination = {
  readonly kind: 'service';
  readonly service: RegistryService;
  readonly endpoints: readonly Endpoint[];
  readonly subset?: string;
};

/** What an application dialled. */
export type Destination =
  | { readonly kind: 'workload'; readonly service: null; readonly endpoints: readonly [WorkloadEndpoint] }
  /** `endpoints` is empty when the service has none, or does not serve the port that was dialled. */
  | ServiceDestination
  /** The dialled address itself. */
  | { readonly kind: 'external'; readonly service: null; readonly endpoints: readonly [Endpoint] };

/** As {@link resolveService}, of one registry. Subsets of one name and other labels are told apart by the labels. */
export type ResolveEndpoints = (
  service: RegistryService,
  dialled: HostPort,
  from: Locality | null,
  subset?: Pick<DestinationSubset, 'name' | 'labels'> | null,
) => readonly Endpoint[];

/**
 * Finds the owner of the dialled address. A workload's own address takes precedence over a VIP. `from`: where the client is,
 * for services whose endpoints depend on it; null: not known, so all endpoints are there. `resolve`: where something keeps lists.
 */
export function resolveDestination(
  registry: RegistryView,
  dialled: HostPort,
  from: Locality | null,
  resolve: ResolveEndpoints = (service, ...rest) => resolveService(registry, service, ...rest),
): Destination {
  const workload = registry.workloadAt(dialled.ip);
  if (workload !== undefined) {
    return { kind: 'workload', service: null, endpoints: [{ workload, address: dialled }] };
  }
  const service = registry.serviceAt(dialled.ip);
  if (service === undefined) {
    return { kind: 'external', service: null, endpoints: [{ workload: null, address: dialled }] };
  }
  return { kind: 'service', service, endpoints: resolve(service, dialled, from) };
}

/** A possible endpoint, and what decides whether this client gets it. One object each: a service may have thousands. */
type Candidate = Endpoint & {
  readonly availability: WorkloadEntry['availability'];
  readonly locality: Locality | undefined;
};

/**
 * The endpoints behind a VIP of a service, in a stable order. Every lookup from a service to its endpoints goes through
 * here. `subset`: only workloads with its labels; what is near or ready is chosen among these.
 */
export function resolveService(
  registry: RegistryView,
  service: RegistryService,
  dialled: HostPort,
  from: Locality | null,
  subset: Pick<DestinationSubset, 'labels'> | null = null,
): readonly Endpoint[] {
  const served = servedPort(service, dialled.port);
  if (served === undefined) return [];
  const whole = everyEndpoint(registry, service, served, dialled.ip);
  const all = subset === null ? whole : whole.filter(({ workload }) => hasLabels(workload, subset.labels));
  const { distribution } = service;
  // What is only for the own host ends there last: ready endpoints of other hosts are none for it.
  const possible = distribution === 'same-host' ? nearestOf(all, { from, distribution }) : all;
  return nearestOf(available(possible, service), { from, distribution });
}

/** All that may become endpoints of a port of a service, ready or not, near or not. `dialled`: an address of the service. */
export function everyEndpoint(
  registry: RegistryView,
  service: RegistryService,
  served: ServicePort,
  dialled: IpAddress,
): readonly Candidate[] {
  const found = selected(registry, service, served, dialled);
  if (service.endpoints !== undefined) found.push(...named(registry, service, served, dialled));
  return found;
}

/** Whether an endpoint belongs to a subset: it is a workload with all of its labels. */
export function hasLabels(workload: WorkloadEntry | null, labels: DestinationSubset['labels']): boolean {
  if (workload === null) return false;
  for (const label in labels) if (workload.labels[label] !== labels[label]) return false;
  return true;
}

/** Those that are ready, else those that end and still serve. */
function available(candidates: readonly Candidate[], { takesUnready }: RegistryService): readonly Candidate[] {
  if (takesUnready === true) return candidates;
  const ready = candidates.filter(({ availability }) => availability === undefined);
  return ready.length > 0 ? ready : candidates.filter(({ availability }) => availability === 'ending');
}

function selected(
  registry: RegistryView,
  service: RegistryService,
  served: ServicePort,
  dialled: IpAddress,
): Candidate[] {
  const found: Candidate[] = [];
  for (const workload of registry.endpointsOf(service)) {
    const ip = addressFor(workload, dialled);
    const port = targetPortOf(served, workload);
    if (ip === undefined || port === undefined) continue;
    const { availability } = workload;
    found.push({ workload, address: { ip, port }, availability, locality: localityOf(workload) ?? undefined });
  }
  return found;
}

/** Of the dialled family if there are any, because what has two addresses is there twice. */
function named(
  registry: RegistryView,
  { endpoints = [] }: RegistryService,
  { port }: ServicePort,
  dialled: IpAddress,
): Candidate[] {
  const ofFamily = endpoints.filter(({ address }) => isIpv6(address) === isIpv6(dialled));
  return (ofFamily.length > 0 ? ofFamily : endpoints).flatMap((each) => {
    const target = each.ports[port];
    if (target === undefined) return [];
    const { address: ip, availability, locality } = each;
    const workload = registry.workloadAt(ip) ?? null;
    return { workload, address: { ip, port: target }, availability, locality };
  });
}

/** The dialled port, or the only one when `dialled` is null; undefined when the service does not serve it. */
export function servedPort({ ports }: RegistryService, dialled: number | null): ServicePort | undefined {
  if (dialled !== null) return ports.find(({ port }) => port === dialled);
  return ports.length === 1 ? ports[0] : undefined;
}

/** Undefined: the workload has no port with the name, so it is no endpoint for this port (as in Kubernetes). */
export function targetPortOf(
  { targetPort }: ServicePort,
  { ports = {} }: Pick<WorkloadEntry, 'ports'>,
): number | undefined {
  if (typeof targetPort === 'number') return targetPort;
  return Object.hasOwn(ports, targetPort) ? ports[targetPort] : undefined;
}

/** An address of the dialled family if there is one, else the first: the agent translates between families. */
function addressFor(workload: WorkloadEntry, dialled: IpAddress): IpAddress | undefined {
  return workload.addresses.find((ip) => isIpv6(ip) === isIpv6(dialled)) ?? workload.addresses[0];
}
