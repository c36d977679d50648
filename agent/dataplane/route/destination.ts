import { isIpv6, type HostPort, type IpAddress } from '../../../shared/address.js';
import type { ServiceEntry, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { RegistryIndex } from './registry-index.js';

/** One place where a connection can end: a workload, at one of its addresses and the port of its application. */
export type Endpoint = { readonly workload: WorkloadEntry; readonly address: HostPort };

/** What an application dialled. */
export type Destination =
  | { readonly kind: 'workload'; readonly service: null; readonly endpoints: readonly [Endpoint] }
  /** `endpoints` is empty when the service has none, or none for the port that was dialled. */
  | { readonly kind: 'service'; readonly service: ServiceEntry; readonly endpoints: readonly Endpoint[] }
  | { readonly kind: 'external'; readonly service: null; readonly endpoints: readonly [] };

/** Finds who has the address that was dialled. A workload's own address goes before a VIP. */
export function resolveDestination(registry: RegistryIndex, dialled: HostPort): Destination {
  const workload = registry.workloadAt(dialled.ip);
  if (workload !== undefined) {
    return { kind: 'workload', service: null, endpoints: [{ workload, address: dialled }] };
  }
  const service = registry.serviceAt(dialled.ip);
  if (service === undefined) return { kind: 'external', service: null, endpoints: [] };
  const port = service.ports.find((candidate) => candidate.port === dialled.port)?.targetPort;
  if (port === undefined) return { kind: 'service', service, endpoints: [] };
  const endpoints: Endpoint[] = [];
  for (const candidate of registry.endpointsOf(service)) {
    const ip = addressFor(candidate, dialled.ip);
    if (ip !== undefined) endpoints.push({ workload: candidate, address: { ip, port } });
  }
  return { kind: 'service', service, endpoints };
}

/** An address of the family that was dialled, else any: the agent translates between families. */
function addressFor(workload: WorkloadEntry, dialled: IpAddress): IpAddress | undefined {
  return workload.addresses.find((ip) => isIpv6(ip) === isIpv6(dialled)) ?? workload.addresses[0];
}
