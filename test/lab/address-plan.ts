import { CulvertError } from '../../shared/errors.js';
import type { IpAddress } from '../../shared/address.js';
import { parseIp } from '../../shared/address.js';
import type { HostSpec, LabTopology, ServiceSpec, WorkloadSpec } from './topology.js';

/**
 * The names and addresses of a lab. Pure: the same prefix and topology give the same plan.
 *
 * | what | IPv4 | IPv6 |
 * |---|---|---|
 * | fabric (the bridge) | 198.18.0.1 | fd00:c0::1 |
 * | controller | 198.18.0.2 | fd00:c0::2 |
 * | host n (from 1) | 198.18.0.(10+n) | fd00:c0::(10+n) |
 * | external host n | 198.18.0.(200+n) | fd00:c0::(200+n) |
 * | workload k of host n | 198.18.(10+n).(1+k) | fd00:c0:n::(1+k) |
 * | service s | 198.18.200.s | fd00:c0:ffff::s |
 *
 * Numbers have the same digits in both families, so that `fd00:c0:1::2` is easy to match with 198.18.11.2.
 */
export type LabPlan = {
  readonly prefix: string;
  readonly mtu: number;
  readonly fabric: PlannedMachine;
  /** Everything with a link to the fabric: hosts, the controller and external hosts. */
  readonly machines: readonly PlannedHost[];
  readonly workloads: readonly PlannedWorkload[];
  readonly services: readonly PlannedService[];
};

type Addresses = { readonly ipv4: IpAddress; readonly ipv6: IpAddress };

/** `netns` is the name under /run/netns. */
export type PlannedMachine = Addresses & { readonly name: string; readonly netns: string };

export type PlannedHost = PlannedMachine & {
  readonly role: 'host' | 'controller' | 'external';
  /** Name of its link's interface in the fabric's namespace. */
  readonly fabricLink: string;
  /** Prefix of its workloads' addresses; null when it has no workloads. */
  readonly podCidrs: { readonly v4: string; readonly v6: string } | null;
};

export type PlannedWorkload = PlannedMachine & {
  readonly spec: WorkloadSpec;
  /** Name of its host. */
  readonly host: string;
  /** Name of its link's interface in its host's namespace. */
  readonly hostLink: string;
};

export type PlannedService = Addresses & { readonly spec: ServiceSpec };

const namePattern = /^[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?$/;

/** Throws `LAB_TOPOLOGY` when a name is not a DNS label or not unique, or when a list is too long. */
export function planLab(prefix: string, topology: LabTopology): LabPlan {
  checkTopology(topology);
  const hosts = topology.hosts.map((host, index) => planHost(prefix, host, index + 1));
  const controller = topology.hasController === true ? [planMachine(prefix, 'controller', 'controller', 2)] : [];
  const external = (topology.externalHosts ?? []).map((name, i) => planMachine(prefix, name, 'external', 201 + i));
  return {
    prefix,
    mtu: topology.mtu ?? 1500,
    fabric: { name: 'fabric', netns: `${prefix}-fabric`, ipv4: ip('198.18.0.1'), ipv6: ip('fd00:c0::1') },
    machines: [...controller, ...hosts, ...external],
    workloads: topology.hosts.flatMap((host, index) => planWorkloads(prefix, host, index + 1)),
    services: (topology.services ?? []).map((spec, index) => ({
      spec,
      ipv4: ip(`198.18.200.${index + 1}`),
      ipv6: ip(`fd00:c0:ffff::${index + 1}`),
    })),
  };
}

/** Every namespace of the plan, by its name under /run/netns. */
export function plannedNamespaces(plan: LabPlan): string[] {
  return [plan.fabric, ...plan.machines, ...plan.workloads].map((machine) => machine.netns);
}

function planHost(prefix: string, host: HostSpec, number: number): PlannedHost {
  const podCidrs = { v4: `198.18.${10 + number}.0/24`, v6: `fd00:c0:${number}::/64` };
  return { ...planMachine(prefix, host.name, 'host', 10 + number), podCidrs };
}

function planMachine(prefix: string, name: string, role: PlannedHost['role'], lastNumber: number): PlannedHost {
  return {
    name,
    role,
    netns: `${prefix}-${name}`,
    ipv4: ip(`198.18.0.${lastNumber}`),
    ipv6: ip(`fd00:c0::${lastNumber}`),
    fabricLink: `${prefix}f${lastNumber}`,
    podCidrs: null,
  };
}

function planWorkloads(prefix: string, host: HostSpec, hostNumber: number): PlannedWorkload[] {
  return (host.workloads ?? []).map((spec, index) => ({
    name: spec.name,
    spec,
    host: host.name,
    // Host names contain no dot, so the two never clash.
    netns: `${prefix}-${spec.name}.${spec.namespace}`,
    hostLink: `${prefix}w${index + 1}`,
    ipv4: ip(`198.18.${10 + hostNumber}.${index + 2}`),
    ipv6: ip(`fd00:c0:${hostNumber}::${index + 2}`),
  }));
}

function checkTopology(topology: LabTopology): void {
  const workloads = topology.hosts.flatMap((host) => host.workloads ?? []);
  const machineNames = [...topology.hosts.map((host) => host.name), ...(topology.externalHosts ?? [])];
  if (topology.hasController === true) machineNames.push('controller');
  checkNames(
    'host',
    ['fabric', ...machineNames].map((name) => [name]),
  );
  checkNames('workload', workloads.map(namespaceAndName));
  checkNames('service', (topology.services ?? []).map(namespaceAndName));
  checkCount('hosts', topology.hosts.length, 180);
  checkCount('external hosts', topology.externalHosts?.length ?? 0, 50);
  checkCount('services', topology.services?.length ?? 0, 250);
  for (const host of topology.hosts) checkCount(`workloads on ${host.name}`, host.workloads?.length ?? 0, 250);
}

type Named = { readonly namespace: string; readonly name: string };

function namespaceAndName({ namespace, name }: Named): string[] {
  return [namespace, name];
}

function checkNames(what: string, names: readonly (readonly string[])[]): void {
  const seen = new Set<string>();
  for (const parts of names) {
    const name = parts.join('/');
    const isValid = parts.every((part) => namePattern.test(part));
    if (!isValid)
      throw topologyError(`"${name}" is not a name for a ${what}`, 'use lower-case letters, digits and dashes');
    if (seen.has(name)) throw topologyError(`the ${what} "${name}" exists twice`, 'give each its own name');
    seen.add(name);
  }
}

function checkCount(what: string, count: number, limit: number): void {
  if (count > limit) throw topologyError(`${count} ${what} are too many`, `a lab has room for ${limit}`);
}

function topologyError(message: string, hint: string): CulvertError {
  return new CulvertError({ code: 'LAB_TOPOLOGY', message: `The topology is invalid: ${message}.`, hint });
}

function ip(text: string): IpAddress {
  const parsed = parseIp(text);
  if (parsed === undefined)
    throw new CulvertError({ code: 'LAB_TOPOLOGY', message: `"${text}" is not an IP address.` });
  return parsed;
}
