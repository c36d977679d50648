import { isIpv6, parseIp, type IpAddress } from '../../shared/address.js';
import type { CulvertError } from '../../shared/errors.js';
import { nearestName } from '../../shared/nearest-name.js';
import type { RegistryEntry, ServiceEntry, WorkloadEntry } from '../../shared/routing/registry-entry.js';
import { badRequest, notFound } from './api-error.js';

/** One thing that a person can have meant by `billing/api` or an address. */
export type Candidate = {
  readonly ip: IpAddress;
  /** Null: an address outside the mesh. */
  readonly workload: WorkloadEntry | null;
  /** The service through which it was named, and its ports; destinations only. */
  readonly service: ServiceEntry | null;
};

/** More candidates than this are not looked at: they are replicas, and an answer is for a person. */
const maxCandidates = 16;

type Word = 'workload' | 'service' | 'sa';

/**
 * Finds what a text means: an IP address, or `namespace/name` of a workload, a service (destinations only) or a
 * service account, in this order; `workload:`, `service:` and `sa:` before it choose one. Throws CulvertError
 * `NOT_FOUND` with the nearest name, or `BAD_REQUEST`.
 */
export function findCandidates(
  text: string,
  side: 'source' | 'destination',
  entries: readonly RegistryEntry[],
): Candidate[] {
  const workloads = entries.filter((entry) => entry.kind === 'workload');
  const services = side === 'source' ? [] : entries.filter((entry) => entry.kind === 'service');
  const ip = parseIp(text);
  if (ip !== undefined) return byAddress(ip, workloads, services);

  const match = /^(?:(workload|service|sa):)?([^/:]+\/[^/:]+)$/.exec(text);
  const name = match?.[2];
  if (match === null || name === undefined) {
    throw badRequest(
      `${side}: "${text}" is neither an IP address nor namespace/name`,
      'write it as billing/api or 198.18.0.10',
    );
  }
  for (const find of meanings(match[1] as Word | undefined, name, workloads, services)) {
    const candidates = find();
    if (candidates.length > 0) return candidates.slice(0, maxCandidates);
  }
  throw unknownName({ text, side, workloads, services });
}

/** What a name can mean, the nearest first. */
function meanings(
  word: Word | undefined,
  name: string,
  workloads: readonly WorkloadEntry[],
  services: readonly ServiceEntry[],
): (() => Candidate[])[] {
  const finders: Readonly<Record<Word, () => Candidate[]>> = {
    workload: () => workloads.filter((entry) => nameOf(entry) === name).flatMap(ofWorkload),
    service: () => services.filter((entry) => nameOf(entry) === name).flatMap((entry) => ofService(entry, workloads)),
    sa: () => workloads.filter((entry) => `${entry.namespace}/${entry.serviceAccount}` === name).flatMap(ofWorkload),
  };
  return word === undefined ? Object.values(finders) : [finders[word]];
}

function byAddress(ip: IpAddress, workloads: readonly WorkloadEntry[], services: readonly ServiceEntry[]): Candidate[] {
  const workload = workloads.find((entry) => entry.addresses.includes(ip));
  const service = services.find((entry) => entry.vips.includes(ip));
  if (workload !== undefined || service === undefined) return [{ ip, workload: workload ?? null, service: null }];
  const candidates = ofService(service, workloads, isIpv6(ip));
  if (candidates.length > 0) return candidates;
  throw noEndpoint(service);
}

/** Its first address: rules that tell the addresses of one workload apart are asked about by address. */
function ofWorkload(workload: WorkloadEntry): Candidate[] {
  const [ip] = workload.addresses;
  return ip === undefined ? [] : [{ ip, workload, service: null }];
}

/** The endpoints, as agents find them: same namespace, all labels of the selector, the family that was dialled. */
function ofService(service: ServiceEntry, workloads: readonly WorkloadEntry[], prefersIpv6 = false): Candidate[] {
  const selected = workloads.filter(
    (entry) =>
      entry.namespace === service.namespace &&
      Object.entries(service.selector).every(([label, value]) => entry.labels[label] === value),
  );
  if (selected.length === 0) throw noEndpoint(service);
  return selected.flatMap((workload) => {
    const ip = workload.addresses.find((address) => isIpv6(address) === prefersIpv6) ?? workload.addresses[0];
    return ip === undefined ? [] : [{ ip, workload, service }];
  });
}

function nameOf(entry: RegistryEntry): string {
  return `${entry.namespace}/${entry.name}`;
}

function noEndpoint(service: ServiceEntry): CulvertError {
  return notFound(
    `the service ${nameOf(service)} has no endpoint: no workload of its namespace carries all labels of its selector`,
    `look at it: culvert get Service ${service.name} -n ${service.namespace}`,
  );
}

function unknownName(search: {
  readonly text: string;
  readonly side: 'source' | 'destination';
  readonly workloads: readonly WorkloadEntry[];
  readonly services: readonly ServiceEntry[];
}): CulvertError {
  const names = [...search.workloads, ...search.services].map(nameOf);
  const accounts = search.workloads.map((entry) => `${entry.namespace}/${entry.serviceAccount}`);
  const nearest = nearestName(search.text, new Set([...names, ...accounts]));
  const what = search.side === 'source' ? 'workload or service account' : 'workload, service or service account';
  return notFound(
    `${search.side}: no ${what} is called ${search.text}`,
    nearest === undefined ? 'list them: culvert get Workload' : `did you mean ${nearest}?`,
  );
}
