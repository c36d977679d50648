import { isIpv6, type IpAddress } from '../../../shared/address.js';
import { formatSpiffeId } from '../../../shared/identity.js';
import { parseTestParty, type TestParty } from '../../resources/kinds/rule-test.js';
import { nearestName } from '../../../shared/nearest-name.js';
import type { RegistryEntry, ServiceEntry, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { externalParty, workloadParty, type MeshParty } from '../pairs/mesh-party.js';
import type { RuleSet } from '../pairs/rule-set.js';

/** An end that a text can mean, and the port of it that is dialled (destinations only). */
export type FoundParty = {
  readonly end: MeshParty;
  readonly port: number | null;
  /** It stands for something that is not registered, so its address says nothing. */
  readonly isAssumed: boolean;
};

export type FoundEnds =
  | { readonly ends: readonly FoundParty[]; readonly note: string | null }
  | { readonly problem: string; readonly hint: string };

/** Stands for a workload that is not registered: TEST-NET-1 (RFC 5737), which no CIDR of a real rule should name. */
const assumedAddress = '192.0.2.1' as IpAddress;

type Target = Extract<TestParty, { readonly name: string }>;

/**
 * Finds what `billing/api`, `198.18.0.10`, `billing/db:5432` or `[fd00::1]:80` means: an address, or a workload, a
 * service (destinations only) or a service account, in this order; `workload:`, `service:` and `sa:` before it choose.
 * All replicas and addresses are found. A name that nothing has stands for a service account that proves its identity
 * and has no labels, with a note that says so: rules may be tested before their workloads exist.
 */
export function findEnds(text: string, side: 'source' | 'destination', { snapshot, entries }: RuleSet): FoundEnds {
  const target = parseTestParty(text);
  if (target === undefined) {
    const problem = `${side} "${text}" is neither an address nor NAMESPACE/NAME`;
    return { problem, hint: side === 'source' ? 'for example billing/api' : 'for example billing/db:5432' };
  }
  if (side === 'source' && target.port !== null) {
    return { problem: `source "${text}" has a port`, hint: 'only the destination has one: write it there' };
  }
  const registry = registryOf(entries);
  const found = 'ip' in target ? registry.byAddress(target.ip, target.port) : registry.byName(target, side);
  if (found !== undefined) return found;
  if ('ip' in target)
    return { ends: [{ end: externalParty(target.ip), port: target.port, isAssumed: false }], note: null };
  if (target.word === 'service' || target.word === 'workload') {
    return { problem: `${side}: there is no ${target.word} ${target.name}`, hint: registry.nearest(target.name) };
  }
  return {
    ends: [{ end: assumedParty(target.name, snapshot.trustDomain), port: target.port, isAssumed: true }],
    note: registry.assumed(target.name),
  };
}

function assumedParty(name: string, trustDomain: string): MeshParty {
  const [namespace = '', serviceAccount = ''] = name.split('/');
  const identity = formatSpiffeId({ trustDomain, namespace, serviceAccount });
  const workload = { namespace, name: serviceAccount, serviceAccount, labels: {}, node: null };
  return { name, party: { ip: assumedAddress, identity, workload }, isMeshed: true };
}

const registries = new WeakMap<readonly RegistryEntry[], Registry>();

/** Kept, because thousands of assertions ask about the same entries. */
function registryOf(entries: readonly RegistryEntry[]): Registry {
  const registry = registries.get(entries) ?? new Registry(entries);
  registries.set(entries, registry);
  return registry;
}

class Registry {
  readonly #workloads: Index<WorkloadEntry>;
  readonly #services: Index<ServiceEntry>;
  readonly #byAccount: ReadonlyMap<string, readonly WorkloadEntry[]>;
  readonly #byNamespace: ReadonlyMap<string, readonly WorkloadEntry[]>;

  constructor(entries: readonly RegistryEntry[]) {
    const workloads = entries.filter((entry) => entry.kind === 'workload');
    this.#workloads = indexOf(workloads, ({ addresses }) => addresses);
    this.#services = indexOf(
      entries.filter((entry) => entry.kind === 'service'),
      ({ vips }) => vips,
    );
    this.#byAccount = groupBy(workloads, (entry) => [accountOf(entry)]);
    this.#byNamespace = groupBy(workloads, ({ namespace }) => [namespace]);
  }

  byAddress(ip: IpAddress, port: number | null): FoundEnds | undefined {
    const workload = this.#workloads.byAddress.get(ip)?.[0];
    if (workload !== undefined)
      return { ends: [{ end: workloadParty(workload, ip), port, isAssumed: false }], note: null };
    const service = this.#services.byAddress.get(ip)?.[0];
    return service === undefined ? undefined : this.#endpoints(service, port, isIpv6(ip));
  }

  byName({ word, name, port }: Target, side: 'source' | 'destination'): FoundEnds | undefined {
    if (word === null || word === 'workload') {
      const ends = endsOf(this.#workloads.byName.get(name) ?? [], port);
      if (ends.length > 0) return { ends, note: null };
    }
    if (side === 'destination' && (word === null || word === 'service')) {
      const service = this.#services.byName.get(name)?.[0];
      if (service !== undefined) return this.#endpoints(service, port, null);
    }
    if (word === null || word === 'sa') {
      const ends = endsOf(this.#byAccount.get(name) ?? [], port);
      if (ends.length > 0) return { ends, note: null };
    }
    return undefined;
  }

  /** As agents find them: the workloads of the same namespace that carry all labels of the selector. */
  #endpoints(service: ServiceEntry, port: number | null, isV6: boolean | null): FoundEnds {
    const name = nameOf(service);
    const served =
      port === null && service.ports.length === 1 ? service.ports[0] : service.ports.find((p) => p.port === port);
    if (served === undefined) {
      const ports = service.ports.map((candidate) => candidate.port).join(', ');
      const problem =
        port === null ? `the service ${name} has several ports` : `the service ${name} has no port ${port}`;
      return { problem, hint: `name one of ${ports}` };
    }
    const selected = (this.#byNamespace.get(service.namespace) ?? []).filter(({ labels }) =>
      Object.entries(service.selector).every(
        ([label, value]) => Object.hasOwn(labels, label) && labels[label] === value,
      ),
    );
    const ends = endsOf(selected, served.targetPort, isV6);
    if (ends.length > 0) return { ends, note: null };
    return {
      problem: `the service ${name} has no endpoint`,
      hint: 'no workload of its namespace carries its selector',
    };
  }

  assumed(name: string): string {
    return `nothing is registered as ${name}: taken for a service account without labels; ${this.nearest(name)}`;
  }

  nearest(name: string): string {
    const names = new Set([
      ...this.#workloads.byName.keys(),
      ...this.#services.byName.keys(),
      ...this.#byAccount.keys(),
    ]);
    const nearest = nearestName(name, names);
    return nearest === undefined ? 'register the workload, or correct the name' : `did you mean ${nearest}?`;
  }
}

function nameOf(entry: RegistryEntry): string {
  return `${entry.namespace}/${entry.name}`;
}

function accountOf({ namespace, serviceAccount }: WorkloadEntry): string {
  return `${namespace}/${serviceAccount}`;
}

type Index<E> = {
  readonly byName: ReadonlyMap<string, readonly E[]>;
  readonly byAddress: ReadonlyMap<string, readonly E[]>;
};

function indexOf<E extends RegistryEntry>(
  entries: readonly E[],
  addressesOf: (entry: E) => readonly string[],
): Index<E> {
  return { byName: groupBy(entries, (entry) => [nameOf(entry)]), byAddress: groupBy(entries, addressesOf) };
}

function groupBy<E>(entries: readonly E[], keysOf: (entry: E) => readonly string[]): ReadonlyMap<string, readonly E[]> {
  const groups = new Map<string, E[]>();
  for (const entry of entries) {
    for (const key of keysOf(entry)) {
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [entry]);
      else group.push(entry);
    }
  }
  return groups;
}

/** At each address, of one family when `isV6` is not null. */
function endsOf(entries: readonly WorkloadEntry[], port: number | null, isV6: boolean | null = null): FoundParty[] {
  return entries.flatMap((entry) => {
    const addresses = entry.addresses.filter((ip) => isV6 === null || isIpv6(ip) === isV6);
    return addresses.map((ip) => ({ end: workloadParty(entry, ip), port, isAssumed: false }));
  });
}
