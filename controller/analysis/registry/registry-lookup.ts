import type { IpAddress } from '../../../shared/address.js';
import type { RegistryEntry, RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { precedes, selects, type RegistryView } from '../../../shared/routing/registry-view.js';

const lookups = new WeakMap<readonly RegistryEntry[], RegistryLookup>();

/** Kept as long as the list is, because thousands of assertions ask about the same entries. */
export function lookupOf(entries: readonly RegistryEntry[]): RegistryLookup {
  const lookup = lookups.get(entries) ?? new RegistryLookup({ entries });
  lookups.set(entries, lookup);
  return lookup;
}

/** A list of entries, in any order, to look things up in. The list must not change. */
export class RegistryLookup implements RegistryView {
  readonly #workloads: Index<WorkloadEntry>;
  readonly #services: Index<RegistryService>;
  readonly #byAccount: Groups<WorkloadEntry>;
  readonly #byNamespace: Groups<WorkloadEntry>;

  constructor({ entries }: { readonly entries: readonly RegistryEntry[] }) {
    const sorted = entries.toSorted((a, b) => (precedes(a, b) ? -1 : 1));
    const workloads = sorted.filter((entry) => entry.kind === 'workload');
    const services = sorted.filter((entry) => entry.kind === 'service');
    this.#workloads = indexOf(workloads, ({ addresses }) => addresses);
    this.#services = indexOf(services, ({ vips }) => vips);
    this.#byAccount = groupBy(workloads, accountOf);
    this.#byNamespace = groupBy(workloads, ({ namespace }) => namespace);
  }

  workloadAt(ip: IpAddress): WorkloadEntry | undefined {
    return this.#workloads.byAddress.get(ip);
  }

  serviceAt(ip: IpAddress): RegistryService | undefined {
    return this.#services.byAddress.get(ip);
  }

  workload(name: string): WorkloadEntry | undefined {
    return this.#workloads.byName.get(name);
  }

  service(name: string): RegistryService | undefined {
    return this.#services.byName.get(name);
  }

  endpointsOf(service: RegistryService): readonly WorkloadEntry[] {
    return (this.#byNamespace.get(service.namespace) ?? []).filter((workload) => selects(service, workload));
  }

  /** The workloads that run as a service account, `namespace/name`, in the order of their names. */
  runningAs(serviceAccount: string): readonly WorkloadEntry[] {
    return this.#byAccount.get(serviceAccount) ?? [];
  }

  /** `namespace/name` of all workloads, services and service accounts. */
  names(): ReadonlySet<string> {
    return new Set([...this.#workloads.byName.keys(), ...this.#services.byName.keys(), ...this.#byAccount.keys()]);
  }

  /** `namespace/name` of all workloads and service accounts. */
  sourceNames(): ReadonlySet<string> {
    return new Set([...this.#workloads.byName.keys(), ...this.#byAccount.keys()]);
  }
}

function nameOf({ namespace, name }: RegistryEntry): string {
  return `${namespace}/${name}`;
}

function accountOf({ namespace, serviceAccount }: WorkloadEntry): string {
  return `${namespace}/${serviceAccount}`;
}

type Groups<E> = ReadonlyMap<string, readonly E[]>;

function groupBy<E>(entries: readonly E[], keyOf: (entry: E) => string): Groups<E> {
  const groups = new Map<string, E[]>();
  for (const entry of entries) {
    const group = groups.get(keyOf(entry));
    if (group === undefined) groups.set(keyOf(entry), [entry]);
    else group.push(entry);
  }
  return groups;
}

type Index<E> = { readonly byName: ReadonlyMap<string, E>; readonly byAddress: ReadonlyMap<string, E> };

/** `sorted`: of two that claim an address, the first has it. */
function indexOf<E extends RegistryEntry>(
  sorted: readonly E[],
  addressesOf: (entry: E) => readonly IpAddress[],
): Index<E> {
  const byName = new Map<string, E>();
  const byAddress = new Map<string, E>();
  for (const entry of sorted) {
    byName.set(nameOf(entry), entry);
    for (const ip of addressesOf(entry)) if (!byAddress.has(ip)) byAddress.set(ip, entry);
  }
  return { byName, byAddress };
}
