import type { IpAddress } from '../address.js';
import type { RegistryService, WorkloadEntry } from './registry-entry.js';
import type { ServiceName, WorkloadName } from './names.js';

/**
 * The lookups that routing needs, and that everything which explains or predicts routing uses too. The agent's view reads
 * memory that its workers share; the controller's views read a list of entries. Both pass one contract suite, so what the
 * controller says about a connection is what the agent does with it.
 */
export interface RegistryView {
  /** The workload with this address; of several that claim it, the first by {@link precedes}. */
  workloadAt(ip: IpAddress): WorkloadEntry | undefined;
  /** The service with this VIP; of several that claim it, the first by {@link precedes}. */
  serviceAt(ip: IpAddress): RegistryService | undefined;
  workload(name: WorkloadName): WorkloadEntry | undefined;
  service(name: ServiceName): RegistryService | undefined;
  /** The workloads that the service {@link selects}, by name. */
  endpointsOf(service: RegistryService): readonly WorkloadEntry[];
}

/**
 * Whether the workload is in the service's namespace and has all labels of its selector. A service without a selector has
 * no endpoints, as in Kubernetes.
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
 * Orders by namespace, then name. It also decides which of two entries gets an address that both claim, which can happen
 * briefly while an address moves. The order of arrival would not do, because it differs between agents.
 */
export function precedes(a: Named, b: Named): boolean {
  return a.namespace === b.namespace ? a.name < b.name : a.namespace < b.namespace;
}

type Named = { readonly namespace: string; readonly name: string };
