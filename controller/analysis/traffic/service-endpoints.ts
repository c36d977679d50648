import { formatHostPort, type HostPort } from '../../../shared/address.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { everyEndpoint, hasLabels, servedPort } from '../../../shared/routing/destination.js';
import { serviceName, workloadName } from '../../../shared/routing/names.js';
import type { RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { RegistryView } from '../../../shared/routing/registry-view.js';
import { TrafficPolicies } from '../../../shared/routing/traffic-policies.js';
import { ejectedBy, ejectionsOf, type Agents, type EjectedBy } from './ejections.js';

/** One endpoint of a service, as the registry has it. */
export type ServiceEndpoint = {
  /** `namespace/name`; null: an address outside the mesh. */
  readonly workload: string | null;
  /** Address and port. */
  readonly address: string;
  /** `ending`: it was told to end, and gets connections only where none is ready. */
  readonly state: 'ready' | 'not ready' | 'ending';
  readonly node: string | null;
  readonly zone: string | null;
  /** Of the DestinationRule for clients of the service's own namespace. */
  readonly subsets: readonly string[];
  /** Agents that have ejected it from this service or a subset of it; an agent says so in its heartbeats, every five seconds. */
  readonly ejected: readonly EjectedBy[];
};

/** All endpoints of a port of a service, also those that get no connection now. */
export function serviceEndpoints(
  { snapshot, registry }: { readonly snapshot: Snapshot; readonly registry: RegistryView },
  service: RegistryService,
  dialled: HostPort,
  agents: Agents = [],
): ServiceEndpoint[] {
  const served = servedPort(service, dialled.port);
  if (served === undefined) return [];
  const { subsets = [] } = new TrafficPolicies(snapshot).ruleFor(service, service.namespace) ?? {};
  const of = `${serviceName(service)}:${dialled.port}`;
  const ejections = ejectionsOf(agents, ({ destination }) => destination === of || destination.endsWith(` of ${of}`));
  return everyEndpoint(registry, service, served, dialled.ip).map(({ workload, address, availability, locality }) => ({
    workload: nameOf(workload),
    address: formatHostPort(address),
    state: stateOf(availability, service),
    node: workload?.node ?? locality?.host ?? null,
    zone: locality?.zone ?? null,
    subsets: subsets.filter(({ labels }) => hasLabels(workload, labels)).map(({ name }) => name),
    ejected: ejectedBy(ejections, { workload: nameOf(workload), address: formatHostPort(address) }),
  }));
}

function nameOf(workload: WorkloadEntry | null): string | null {
  return workload === null ? null : workloadName(workload);
}

function stateOf(
  availability: 'unready' | 'ending' | undefined,
  { takesUnready }: RegistryService,
): ServiceEndpoint['state'] {
  if (availability === undefined || takesUnready === true) return 'ready';
  return availability === 'unready' ? 'not ready' : 'ending';
}
