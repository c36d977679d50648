import { parseIp, type HostPort, type IpAddress } from '../../shared/address.js';
import type { CulvertError } from '../../shared/errors.js';
import { nearestName } from '../../shared/nearest-name.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import { resolveDestination, resolveService, servedPort } from '../../shared/routing/destination.js';
import type { Locality, RegistryEntry, RegistryService, WorkloadEntry } from '../../shared/routing/registry-entry.js';
import { resolveName, type NameWord } from '../analysis/registry/registered-name.js';
import { lookupOf, type RegistryLookup } from '../analysis/registry/registry-lookup.js';
import { backendEndpoints } from '../analysis/traffic/route-backends.js';
import { badRequest, notFound } from './api-error.js';
import { serviceName } from '../../shared/routing/names.js';

/** One thing that a person can have meant by `billing/api` or an address. */
export type Candidate = {
  readonly ip: IpAddress;
  /** Null: an address outside the mesh. */
  readonly workload: WorkloadEntry | null;
};

export type DestinationCandidate = Candidate & {
  /** Of the application: rules are about the port of the endpoint, never that of the service's address. */
  readonly port: number;
  /** The service through which it was named. */
  readonly service: RegistryService | null;
  /** Why the client gets this endpoint and not every one of the service, for people; null: it gets all. */
  readonly choice: string | null;
  /** The other service, and its port, to which a route leads connections that get this endpoint; absent: none does. */
  readonly led?: { readonly service: RegistryService; readonly port: number };
};

/** The rules whose routes lead the connections of a client elsewhere. */
type Led = { readonly snapshot: Snapshot; readonly client: WorkloadEntry };

/** More candidates than this are not looked at: they are replicas, and an answer is for a person. */
const maxCandidates = 16;

/**
 * Finds what a text means: an IP address, or `namespace/name` of a workload or a service account, in this order;
 * `workload:` and `sa:` before it choose one. Throws CulvertError `NOT_FOUND` with the nearest name, or `BAD_REQUEST`.
 */
export function findSources(text: string, entries: readonly RegistryEntry[]): Candidate[] {
  const registry = lookupOf(entries);
  const ip = parseIp(text);
  if (ip !== undefined) return [{ ip, workload: registry.workloadAt(ip) ?? null }];
  const found = resolveName(registry, parseName(text, 'source'), 'source');
  if (found.kind === 'workload') return addressesOf([found.workload]);
  if (found.kind === 'serviceAccount') return addressesOf(found.workloads);
  throw unknownName(text, 'source', registry);
}

/**
 * The same for a destination, which may also be a service: a VIP, or a name between workload and service account
 * (`service:` chooses it). `port` is what the source dials; null when it was not given. `from`: where the source is; of a service
 * that goes by that, only the endpoints that it gets are there. `led`: the client, whose routes
 * may lead to other services too; null: there is none.
 */
export function findDestinations(
  text: string,
  port: number | null,
  entries: readonly RegistryEntry[],
  from: Locality | null,
  led: Led | null = null,
): DestinationCandidate[] {
  const registry = lookupOf(entries);
  const ip = parseIp(text);
  if (ip !== undefined) {
    const destination = resolveDestination(registry, { ip, port: port ?? 0 }, null);
    if (destination.kind === 'service') return ofService(destination.service, ip, port, { registry, from, led });
    return atPort([{ ip, workload: destination.endpoints[0]?.workload ?? null }], port);
  }
  const found = resolveName(registry, parseName(text, 'destination'), 'destination');
  if (found.kind === 'workload') return atPort(addressesOf([found.workload]), port);
  if (found.kind === 'serviceAccount') return atPort(addressesOf(found.workloads), port);
  if (found.kind === 'unknown') throw unknownName(text, 'destination', registry);
  return ofService(found.service, found.service.vips[0], port, { registry, from, led }).slice(0, maxCandidates);
}

function parseName(text: string, side: 'source' | 'destination'): { word: NameWord; name: string } {
  const match = /^(?:(workload|service|sa):)?([^/:]+\/[^/:]+)$/.exec(text);
  const name = match?.[2];
  if (name !== undefined) return { word: (match?.[1] ?? null) as NameWord, name };
  throw badRequest(
    `${side}: "${text}" is neither an IP address nor namespace/name`,
    'write it as billing/api or 198.18.0.10',
  );
}

/** Each at its first address: rules that tell the addresses of one workload apart are asked about by address. */
function addressesOf(workloads: readonly WorkloadEntry[]): Candidate[] {
  const candidates = workloads.flatMap((workload) => workload.addresses.slice(0, 1).map((ip) => ({ ip, workload })));
  return candidates.slice(0, maxCandidates);
}

function atPort(candidates: readonly Candidate[], port: number | null): DestinationCandidate[] {
  if (port === null) throw badRequest('the destination has no port', 'name it: culvert why SRC DST:PORT');
  return candidates.map((candidate) => ({ ...candidate, port, service: null, choice: null }));
}

/** What an agent connects to when its workload at `from` dials this VIP. */
function ofService(
  service: RegistryService,
  vip: IpAddress | undefined,
  port: number | null,
  {
    registry,
    from,
    led,
  }: { readonly registry: RegistryLookup; readonly from: Locality | null; readonly led: Led | null },
): DestinationCandidate[] {
  const served = servedPort(service, port);
  if (served === undefined) throw notServed(service, port);
  const endpointsFor = (place: Locality | null) =>
    vip === undefined ? [] : resolveService(registry, service, { ip: vip, port: served.port }, place);
  const backends = vip === undefined || led === null ? [] : backendsOf(service, { ip: vip, port: served.port }, led);
  const all = endpointsFor(null);
  if (all.length === 0 && backends.length > 0) return backends;
  if (all.length === 0) throw noEndpoint(service);
  const endpoints = endpointsFor(from);
  if (endpoints.length === 0 && backends.length > 0) return backends;
  if (endpoints.length === 0) throw noneOnHost(service, from, all.length);
  const choice =
    from === null || endpoints.length === all.length ? null : choiceOf(service, from, endpoints.length, all.length);
  return [...endpoints.map(({ workload, address }) => ({ ...address, workload, service, choice })), ...backends];

  function backendsOf(of: RegistryService, dialled: HostPort, { snapshot, client }: Led): DestinationCandidate[] {
    return backendEndpoints({ snapshot, registry }, of, { client, dialled, from }).map(
      ({ workload, address, route, backend, led: ledTo }) => ({
        ...address,
        workload,
        led: ledTo,
        service: of,
        choice: `${route} leads connections to ${backend}, which has this endpoint.`,
      }),
    );
  }
}

function choiceOf(service: RegistryService, { host, zone }: Locality, gets: number, all: number): string {
  const place = zone === undefined ? `on ${host}` : `on ${host}, in the zone ${zone},`;
  const why =
    service.distribution === 'same-host'
      ? 'those of its own host (internalTrafficPolicy: Local)'
      : 'the nearest that there are (trafficDistribution)';
  return `Of the ${all} endpoints of ${serviceName(service)} a client ${place} gets ${gets}: ${why}.`;
}

function noneOnHost(service: RegistryService, from: Locality | null, all: number): CulvertError {
  return notFound(
    `the service ${serviceName(service)} has no endpoint on ${from?.host ?? 'this host'}, and a client there gets none of the ${all} others (internalTrafficPolicy: Local)`,
    'ask for a client of another host, or for one endpoint by its name',
  );
}

function notServed(service: RegistryService, port: number | null): CulvertError {
  const ports = service.ports.map((candidate) => candidate.port).join(', ');
  const name = serviceName(service);
  if (port === null) return badRequest(`the service ${name} has several ports`, `name one of ${ports}`);
  return badRequest(`the service ${name} has no port ${port}`, `use one of ${ports}`);
}

function noEndpoint(service: RegistryService): CulvertError {
  return notFound(
    `the service ${serviceName(service)} has no endpoint: no workload of its namespace carries all labels of its selector`,
    `look at it: culvert get Service ${service.name} -n ${service.namespace}`,
  );
}

function unknownName(text: string, side: 'source' | 'destination', registry: RegistryLookup): CulvertError {
  const nearest = nearestName(text, side === 'source' ? registry.sourceNames() : registry.names());
  const what = side === 'source' ? 'workload or service account' : 'workload, service or service account';
  return notFound(
    `${side}: no ${what} is called ${text}`,
    nearest === undefined ? 'list them: culvert get Workload' : `did you mean ${nearest}?`,
  );
}
