import type { IpAddress } from '../../../shared/address.js';
import type { RegistryEntry, RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { precedes, selects, type RegistryView } from '../../../shared/routing/registry-view.js';
import {
  serviceAccountName,
  serviceName,
  workloadName,
  type ServiceAccountName,
  type ServiceName,
  type WorkloadName,
} from '../../../shared/routing/names.js';

const lookups = new WeakMap<readonly RegistryEntry[], RegistryLookup>();

/** Kept as long as the list is, because thousands of assertions ask about the same entries. */
export function lookupOf(entries: readonly RegistryEntry[]): RegistryLookup {
  const lookup = lookups.get(entries) ?? new RegistryLookup({ entries });
  lookups.set(entries, lookup);
  return lookup;
}

/** A list of entries, in any order, to look things up in. The list must not change. */
export class RegistryLookup implements RegistryView {
  readonly #workloads: Index<WorkloadName, WorkloadEntry>;
  readonly #services: Index<ServiceName, RegistryService>;
  readonly #byAccount: Groups<ServiceAccountName, WorkloadEntry>;
  readonly #byNamespace: Groups<string, WorkloadEntry>;

  constructor({ entries }: { readonly entries: readonly RegistryEntry[] }) {
    const sorted = entries.toSorted((a, b) => (precedes(a, b) ? -1 : 1));
    const workloads = sorted.filter((entry) => entry.kind === 'workload');
    const services = sorted.filter((entry) => entry.kind === 'service');
    this.#workloads = indexOf(workloads, workloadName, ({ addresses }) => addresses);
    this.#services = indexOf(services, serviceName, ({ vips }) => vips);
    this.#byAccount = groupBy(workloads, serviceAccountName);
    this.#byNamespace = groupBy(workloads, ({ namespace }) => namespace);
  }

  workloadAt(ip: IpAddress): WorkloadEntry | undefined {
    return this.#workloads.byAddress.get(ip);
  }

  serviceAt(ip: IpAddress): RegistryService | undefined {
    return this.#services.byAddress.get(ip);
  }

  workload(name: WorkloadName): WorkloadEntry | undefined {
    return this.#workloads.byName.get(name);
  }

  service(name: ServiceName): RegistryService | undefined {
    return this.#services.byName.get(name);
  }

  endpointsOf(service: RegistryService): readonly WorkloadEntry[] {
    return (this.#byNamespace.get(service.namespace) ?? []).filter((workload) => selects(service, workload));
  }

  /** The workloads that run as a service account, in the order of their names. */
  runningAs(serviceAccount: ServiceAccountName): readonly WorkloadEntry[] {
    return this.#byAccount.get(serviceAccount) ?? [];
  }

  /** `namespace/name` of all workloads, services and service accounts. */
  names(): ReadonlySet<string> {
    return new Set([...this.#workloads.byName.keys(), ...this.#services.byName.keys(), ...this.#byAccount.keys()]);
  }

  /** `namespace/name` of all services. */
  serviceNames(): ReadonlySet<string> {
    return new Set(this.#services.byName.keys());
  }

  /** `namespace/name` of all workloads and service accounts. */
  sourceNames(): ReadonlySet<string> {
    return new Set([...this.#workloads.byName.keys(), ...this.#byAccount.keys()]);
  }
}

type Groups<K, E> = ReadonlyMap<K, readonly E[]>;

function groupBy<K, E>(entries: readonly E[], keyOf: (entry: E) => K): Groups<K, E> {
  const groups = new Map<K, E[]>();
  for (const entry of entries) {
    const group = groups.get(keyOf(entry));
    if (group === undefined) groups.set(keyOf(entry), [entry]);
    else group.push(entry);
  }
  return groups;
}

type Index<K, E> = { readonly byName: ReadonlyMap<K, E>; readonly byAddress: ReadonlyMap<string, E> };

/** `sorted`: of two that claim an address, the first has it. */
function indexOf<K, E extends RegistryEntry>(
  sorted: readonly E[],
  nameOf: (entry: E) => K,
  addressesOf: (entry: E) => readonly IpAddress[],
): Index<K, E> {
  const byName = new Map<K, E>();
  const byAddress = new Map<string, E>();
  for (const entry of sorted) {
    byName.set(nameOf(entry), entry);
    for (const ip of addressesOf(entry)) if (!byAddress.has(ip)) byAddress.set(ip, entry);
  }
  return { byName, byAddress };
}
