import { isIpv6, type IpAddress } from '../address.js';
import { formatSpiffeId } from '../identity.js';
import { parseTestEnd, type TestEnd } from '../model/rule-test.js';
import { nearestName } from '../nearest-name.js';
import type { RegistryEntry, ServiceEntry, WorkloadEntry } from '../wire/registry.js';
import { externalEnd, workloadEnd, type MeshEnd } from './mesh-end.js';
import type { RuleSet } from './rule-set.js';

/** An end that a text can mean, and the port of it that is dialled (destinations only). */
export type FoundEnd = {
  readonly end: MeshEnd;
  readonly port: number | null;
  /** It stands for something that is not registered, so its address says nothing. */
  readonly isAssumed: boolean;
};

export type FoundEnds =
  | { readonly ends: readonly FoundEnd[]; readonly note: string | null }
  | { readonly problem: string; readonly hint: string };

/** Stands for a workload that is not registered: TEST-NET-1 (RFC 5737), which no CIDR of a real rule should name. */
const assumedAddress = '192.0.2.1' as IpAddress;

type Target = Extract<TestEnd, { readonly name: string }>;

/**
 * Finds what `billing/api`, `198.18.0.10`, `billing/db:5432` or `[fd00::1]:80` means: an address, or a workload, a
 * service (destinations only) or a service account, in this order; `workload:`, `service:` and `sa:` before it choose.
 * All replicas and addresses are found. A name that nothing has stands for a service account that proves its identity
 * and has no labels, with a note that says so: rules may be tested before their workloads exist.
 */
export function findEnds(text: string, side: 'source' | 'destination', { snapshot, entries }: RuleSet): FoundEnds {
  const target = parseTestEnd(text);
  if (target === undefined) {
    const problem = `${side} "${text}" is neither an address nor NAMESPACE/NAME`;
    return { problem, hint: side === 'source' ? 'for example billing/api' : 'for example billing/db:5432' };
  }
  if (side === 'source' && target.port !== null) {
    return { problem: `source "${text}" has a port`, hint: 'only the destination has one: write it there' };
  }
  const registry = new Registry(entries);
  const found = 'ip' in target ? registry.byAddress(target.ip, target.port) : registry.byName(target, side);
  if (found !== undefined) return found;
  if ('ip' in target)
    return { ends: [{ end: externalEnd(target.ip), port: target.port, isAssumed: false }], note: null };
  if (target.word === 'service' || target.word === 'workload') {
    return { problem: `${side}: there is no ${target.word} ${target.name}`, hint: registry.nearest(target.name) };
  }
  return {
    ends: [{ end: assumedEnd(target.name, snapshot.trustDomain), port: target.port, isAssumed: true }],
    note: registry.assumed(target.name),
  };
}

function assumedEnd(name: string, trustDomain: string): MeshEnd {
  const [namespace = '', serviceAccount = ''] = name.split('/');
  const identity = formatSpiffeId({ trustDomain, namespace, serviceAccount });
  const workload = { namespace, name: serviceAccount, serviceAccount, labels: {}, node: null };
  return { name, party: { ip: assumedAddress, identity, workload }, isMeshed: true };
}

class Registry {
  readonly #workloads: readonly WorkloadEntry[];
  readonly #services: readonly ServiceEntry[];

  constructor(entries: readonly RegistryEntry[]) {
    this.#workloads = entries.filter((entry) => entry.kind === 'workload');
    this.#services = entries.filter((entry) => entry.kind === 'service');
  }

  byAddress(ip: IpAddress, port: number | null): FoundEnds | undefined {
    const workload = this.#workloads.find(({ addresses }) => addresses.includes(ip));
    if (workload !== undefined)
      return { ends: [{ end: workloadEnd(workload, ip), port, isAssumed: false }], note: null };
    const service = this.#services.find(({ vips }) => vips.includes(ip));
    return service === undefined ? undefined : this.#endpoints(service, port, isIpv6(ip));
  }

  byName({ word, name, port }: Target, side: 'source' | 'destination'): FoundEnds | undefined {
    if (word === null || word === 'workload') {
      const ends = this.#ends((entry) => nameOf(entry) === name, port);
      if (ends.length > 0) return { ends, note: null };
    }
    if (side === 'destination' && (word === null || word === 'service')) {
      const service = this.#services.find((entry) => nameOf(entry) === name);
      if (service !== undefined) return this.#endpoints(service, port, null);
    }
    if (word === null || word === 'sa') {
      const ends = this.#ends((entry) => `${entry.namespace}/${entry.serviceAccount}` === name, port);
      if (ends.length > 0) return { ends, note: null };
    }
    return undefined;
  }

  #ends(isMeant: (entry: WorkloadEntry) => boolean, port: number | null, isV6: boolean | null = null): FoundEnd[] {
    return this.#workloads.filter(isMeant).flatMap((entry) => {
      const addresses = entry.addresses.filter((ip) => isV6 === null || isIpv6(ip) === isV6);
      return addresses.map((ip) => ({ end: workloadEnd(entry, ip), port, isAssumed: false }));
    });
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
    const ends = this.#ends(
      ({ namespace, labels }) =>
        namespace === service.namespace &&
        Object.entries(service.selector).every(
          ([label, value]) => Object.hasOwn(labels, label) && labels[label] === value,
        ),
      served.targetPort,
      isV6,
    );
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
    const accounts = this.#workloads.map((entry) => `${entry.namespace}/${entry.serviceAccount}`);
    const names = new Set([...this.#workloads.map(nameOf), ...this.#services.map(nameOf), ...accounts]);
    const nearest = nearestName(name, names);
    return nearest === undefined ? 'register the workload, or correct the name' : `did you mean ${nearest}?`;
  }
}

function nameOf(entry: RegistryEntry): string {
  return `${entry.namespace}/${entry.name}`;
}
