import { isIpv6, type HostPort, type IpAddress } from '../address.js';
import type { RegistryService, ServicePort, WorkloadEntry } from './registry-entry.js';
import type { RegistryView } from './registry-view.js';

/** One place where a connection can end: a workload, at one of its addresses and the port of its application. */
export type Endpoint = { readonly workload: WorkloadEntry; readonly address: HostPort };

/** What an application dialled. */
export type Destination =
  | { readonly kind: 'workload'; readonly service: null; readonly endpoints: readonly [Endpoint] }
  /** `endpoints` is empty when the service has none, or does not serve the port that was dialled. */
  | { readonly kind: 'service'; readonly service: RegistryService; readonly endpoints: readonly Endpoint[] }
  | { readonly kind: 'external'; readonly service: null; readonly endpoints: readonly [] };

/** Finds the owner of the dialled address. A workload's own address takes precedence over a VIP. */
export function resolveDestination(registry: RegistryView, dialled: HostPort): Destination {
  const workload = registry.workloadAt(dialled.ip);
  if (workload !== undefined) {
    return { kind: 'workload', service: null, endpoints: [{ workload, address: dialled }] };
  }
  const service = registry.serviceAt(dialled.ip);
  if (service === undefined) return { kind: 'external', service: null, endpoints: [] };
  return { kind: 'service', service, endpoints: resolveService(registry, service, dialled) };
}

/**
 * The endpoints behind a VIP of a service, in a stable order. Every lookup from a service to its endpoints goes through
 * here. Routes and subsets, which divide a service's traffic, belong between the served port and the selected workloads.
 */
export function resolveService(
  registry: RegistryView,
  service: RegistryService,
  dialled: HostPort,
): readonly Endpoint[] {
  const served = servedPort(service, dialled.port);
  if (served === undefined) return [];
  const selected = registry.endpointsOf(service);
  const endpointsAmong = (isTaken: (workload: WorkloadEntry) => boolean): Endpoint[] => {
    const endpoints: Endpoint[] = [];
    for (const workload of selected) {
      if (!isTaken(workload)) continue;
      const ip = addressFor(workload, dialled.ip);
      const port = targetPortOf(served, workload);
      if (ip !== undefined && port !== undefined) endpoints.push({ workload, address: { ip, port } });
    }
    return endpoints;
  };
  if (service.takesUnready === true) return endpointsAmong(() => true);
  const ready = endpointsAmong(({ availability }) => availability === undefined);
  return ready.length > 0 ? ready : endpointsAmong(({ availability }) => availability === 'ending');
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
