import type { IpAddress } from '../address.js';
import type { RegistryService, WorkloadEntry } from './registry-entry.js';
import type { ServiceName, WorkloadName } from './names.js';

/**
 * The registry as everything that routes, explains or predicts looks things up in it. The agent reads it from memory that
 * its workers share, the controller from a list of entries; both pass one contract suite, so an answer about a connection
 * is what happens to it.
 */
export interface RegistryView {
  /** Of several workloads that claim the address, the first by {@link precedes}. */
  workloadAt(ip: IpAddress): WorkloadEntry | undefined;
  /** Of several services that claim the VIP, the first by {@link precedes}. */
  serviceAt(ip: IpAddress): RegistryService | undefined;
  workload(name: WorkloadName): WorkloadEntry | undefined;
  service(name: ServiceName): RegistryService | undefined;
  /** The workloads that the service {@link selects}, by name. */
  endpointsOf(service: RegistryService): readonly WorkloadEntry[];
}

/**
 * Workloads of the service's namespace that carry all labels of its selector. A service without a selector has no
 * endpoints, as in Kubernetes.
 */
export function selects(
  { namespace, selector }: Pick<RegistryService, 'namespace' | 'selector'>,
  workload: Pick<WorkloadEntry, 'namespace' | 'labels'>,
): boolean {
  if (workload.namespace !== namespace) return false;
  let isSelected = false;
  for (const label in selector) {
    if (workload.labels[label] !== selector[label]) return false;
    isSelected = true;
  }
  return isSelected;
}

/**
 * The order of namespaces, then names. It also decides who has an address that two entries claim, as can be for a moment
 * while the address moves: the order in which changes arrive differs from agent to agent, names do not.
 */
export function precedes(a: Named, b: Named): boolean {
  return a.namespace === b.namespace ? a.name < b.name : a.namespace < b.namespace;
}

type Named = { readonly namespace: string; readonly name: string };
