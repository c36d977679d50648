import { assertNever } from '../../../shared/assert-never.js';
import { isIpv6, type IpAddress } from '../../../shared/address.js';
import { formatSpiffeId } from '../../../shared/identity.js';
import { parseTestParty } from '../../resources/kinds/rule-test.js';
import { nearestName } from '../../../shared/nearest-name.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { resolveDestination, resolveService, servedPort, type Endpoint } from '../../../shared/routing/destination.js';
import type { RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { externalParty, workloadParty, type MeshParty } from '../pairs/mesh-party.js';
import type { RuleSet } from '../pairs/rule-set.js';
import { resolveName } from '../registry/registered-name.js';
import { lookupOf, type RegistryLookup } from '../registry/registry-lookup.js';
import { possibleBackends } from '../traffic/route-backends.js';
import { serviceName } from '../../../shared/routing/names.js';

/** An end that a text can mean, and the port of its application (destinations only). */
export type FoundParty = {
  readonly end: MeshParty;
  /** What a source dials to get there: the address of the end, or the VIP of a service, which may be of another family. */
  readonly dialled: IpAddress;
  readonly port: number | null;
  /** It stands for something that is not registered, so its address says nothing. */
  readonly isAssumed: boolean;
  /** Whether connections of a client may be led here; absent: those of all. */
  readonly isFor?: (client: {
    readonly namespace: string;
    readonly labels: Readonly<Record<string, string>>;
  }) => boolean;
};

export type FoundEnds =
  | { readonly ends: readonly FoundParty[]; readonly note: string | null }
  | { readonly problem: string; readonly hint: string };

type Known = { readonly snapshot: Snapshot; readonly registry: RegistryLookup };

/** Stands for a workload that is not registered: TEST-NET-1 (RFC 5737), which no CIDR of a real rule should name. */
const assumedAddress = '192.0.2.1' as IpAddress;

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
  const registry = lookupOf(entries);
  const set = { snapshot, registry };
  if ('ip' in target) return atAddress(target, set);
  const { word, name, port } = target;
  const found = resolveName(registry, target, side);
  if (found.kind === 'workload') return ofWorkloads([found.workload], port);
  if (found.kind === 'service') return ofService(found.service, port, oneVipOfEachFamily(found.service), set);
  if (found.kind === 'serviceAccount') return ofWorkloads(found.workloads, port);
  if (word === 'service' || word === 'workload') {
    return { problem: `${side}: there is no ${word} ${name}`, hint: nearest(name, registry) };
  }
  const end = assumedParty(name, snapshot.trustDomain);
  return {
    ends: [{ end, dialled: end.party.ip, port, isAssumed: true }],
    note: `nothing is registered as ${name}: taken for a service account without labels; ${nearest(name, registry)}`,
  };
}

function atAddress({ ip, port }: { readonly ip: IpAddress; readonly port: number | null }, set: Known): FoundEnds {
  const destination = resolveDestination(set.registry, { ip, port: port ?? 0 }, null);
  switch (destination.kind) {
    case 'workload':
      return { ends: [partyAt(destination.endpoints[0].workload, ip, port)], note: null };
    case 'service':
      return ofService(destination.service, port, [ip], set);
    case 'external':
      return { ends: [{ end: externalParty(ip), dialled: ip, port, isAssumed: false }], note: null };
    default:
      return assertNever(destination);
  }
}

function assumedParty(name: string, trustDomain: string): MeshParty {
  const [namespace = '', serviceAccount = ''] = name.split('/');
  const identity = formatSpiffeId({ trustDomain, namespace, serviceAccount });
  const workload = { namespace, name: serviceAccount, serviceAccount, labels: {}, node: null };
  return { name, party: { ip: assumedAddress, identity, workload }, isMeshed: true };
}

/** What agents connect to when a source dials one of these VIPs, wherever the source is. */
function ofService(service: RegistryService, port: number | null, vips: readonly IpAddress[], set: Known): FoundEnds {
  const name = serviceName(service);
  const served = servedPort(service, port);
  if (served === undefined) {
    const ports = service.ports.map((candidate) => candidate.port).join(', ');
    const problem = port === null ? `the service ${name} has several ports` : `the service ${name} has no port ${port}`;
    return { problem, hint: `name one of ${ports}` };
  }
  const ends = vips.flatMap((dialled) => {
    const at = { ip: dialled, port: served.port };
    const partyOf = ({ workload, address }: Endpoint): FoundParty => ({
      end: workload === null ? externalParty(address.ip) : workloadParty(workload, address.ip),
      dialled,
      port: address.port,
      isAssumed: false,
    });
    return [
      ...resolveService(set.registry, service, at, null).map(partyOf),
      ...possibleBackends(set, service, at).map(({ endpoint, isFor }) => ({ ...partyOf(endpoint), isFor })),
    ];
  });
  if (ends.length > 0) return { ends, note: null };
  return {
    problem: `the service ${name} has no endpoint`,
    hint: 'no workload of its namespace carries its selector',
  };
}

/** Two VIPs of one family have the same endpoints. */
function oneVipOfEachFamily({ vips }: RegistryService): IpAddress[] {
  return vips.filter((vip, at) => vips.findIndex((other) => isIpv6(other) === isIpv6(vip)) === at);
}

function ofWorkloads(workloads: readonly WorkloadEntry[], port: number | null): FoundEnds {
  return { ends: workloads.flatMap((entry) => entry.addresses.map((ip) => partyAt(entry, ip, port))), note: null };
}

function partyAt(workload: WorkloadEntry, ip: IpAddress, port: number | null): FoundParty {
  return { end: workloadParty(workload, ip), dialled: ip, port, isAssumed: false };
}

function nearest(name: string, registry: RegistryLookup): string {
  const found = nearestName(name, registry.names());
  return found === undefined ? 'register the workload, or correct the name' : `did you mean ${found}?`;
}
