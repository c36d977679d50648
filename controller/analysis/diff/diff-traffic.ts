import { formatHostPort, type HostPort } from '../../../shared/address.js';
import type { Clock } from '../../../shared/policy/connection.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import { everyEndpoint, type Endpoint } from '../../../shared/routing/destination.js';
import { serviceName, workloadName } from '../../../shared/routing/names.js';
import type { RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { FlowRecord } from '../../../shared/wire/flows.js';
import { conversations } from '../flows/conversations.js';
import type { RuleSet } from '../pairs/rule-set.js';
import { lookupOf, type RegistryLookup } from '../registry/registry-lookup.js';
import { possibleBackends } from '../traffic/route-backends.js';
import { TrafficView, type RoutedFault, type RoutedTarget, type ServiceRoutes } from '../traffic/service-routes.js';

/** Recorded clients of a service whose new connections would go elsewhere. */
export type TrafficChange = {
  readonly sources: readonly string[];
  /** `shop/web:80`. */
  readonly service: string;
  /** Recorded connections of these clients to workloads of the service that worked. */
  readonly worked: number;
  /** Who gets how much: `v1 90 %, v2 10 %`. */
  readonly before: string;
  readonly after: string;
  /** Some of them would be refused, and none is now. */
  readonly isBroken: boolean;
};

/** `isFor`: of a backend of its routes, whether they lead a client there; absent: it is an endpoint of the service itself. */
type Dialled = {
  readonly service: RegistryService;
  readonly address: HostPort;
  readonly isFor?: (client: WorkloadEntry) => boolean;
};

/**
 * What changed DestinationRules, VirtualServices, TCPRoutes and RateLimits would do to the clients of recorded connections.
 * Records name the workload that was reached: each service that has it as an endpoint, or whose route led the client there, may
 * be the one that was dialled.
 */
export function diffTraffic(input: {
  readonly before: RuleSet;
  readonly after: RuleSet;
  readonly flows: readonly FlowRecord[];
  readonly clock: Clock;
}): TrafficChange[] {
  const { before, after, flows, clock } = input;
  if (!steers(before.snapshot) && !steers(after.snapshot)) return [];
  // Both over the new registry: what a change of workloads does is not what a route does.
  const registry = lookupOf(after.entries);
  const [old, fresh] = [before, after].map(({ snapshot }) => new TrafficView({ snapshot, registry, clock }));
  if (old === undefined || fresh === undefined) return [];
  const dialled = dialledFor(registry, { before, after });
  const changes = new Map<string, TrafficChange>();
  const seen = new Map<string, { worked: number; client: string; at: Dialled }>();
  for (const { source, destination, port, worked } of conversations(flows)) {
    if (source.workload === null || destination.workload === null || worked === 0) continue;
    const client = registry.workload(source.workload);
    for (const at of dialled.get(`${destination.workload} ${port}`) ?? []) {
      if (at.isFor !== undefined && (client === undefined || !at.isFor(client))) continue;
      const key = `${source.workload} ${serviceName(at.service)} ${formatHostPort(at.address)}`;
      const known = seen.get(key);
      if (known === undefined) seen.set(key, { worked, client: source.workload, at });
      else known.worked += worked;
    }
  }
  for (const { worked, client: name, at } of seen.values()) {
    const client = registry.workload(name as Parameters<RegistryLookup['workload']>[0]);
    if (client === undefined) continue;
    const [was, will] = [old, fresh].map((view) => view.routesTo(at.service, client, at.address));
    if (was === undefined || will === undefined) continue;
    const [beforeText, afterText] = [routesText(was), routesText(will)];
    if (beforeText === afterText) continue;
    const service = `${serviceName(at.service)}:${at.address.port}`;
    const key = `${service} ${beforeText} ${afterText}`;
    const present = changes.get(key);
    changes.set(key, {
      sources: [...(present?.sources ?? []), name],
      service,
      worked: (present?.worked ?? 0) + worked,
      before: beforeText,
      after: afterText,
      isBroken: isRefusing(will) && !isRefusing(was),
    });
  }
  return [...changes.values()].sort((a, b) => b.worked - a.worked);
}

function steers({ destinationRules = [], virtualServices = [], rateLimits = [] }: Snapshot): boolean {
  return destinationRules.length > 0 || virtualServices.length > 0 || rateLimits.length > 0;
}

/** Services by the workload and port of each of their endpoints. */
function dialledFor(
  registry: RegistryLookup,
  { before, after }: { readonly before: RuleSet; readonly after: RuleSet },
): Map<string, Dialled[]> {
  const found = new Map<string, Dialled[]>();
  const add = ({ workload, address }: Endpoint, dialled: Dialled): void => {
    if (workload === null) return;
    const key = `${workloadName(workload)} ${address.port}`;
    const present = found.get(key);
    if (present === undefined) found.set(key, [dialled]);
    else present.push(dialled);
  };
  for (const service of after.entries) {
    const [ip] = service.kind === 'service' ? service.vips : [];
    if (service.kind !== 'service' || ip === undefined) continue;
    for (const served of service.ports) {
      const address = { ip, port: served.port };
      for (const endpoint of everyEndpoint(registry, service, served, ip)) add(endpoint, { service, address });
      // What is recorded went by the routes of before.
      for (const { endpoint, isFor } of possibleBackends({ snapshot: before.snapshot, registry }, service, address))
        add(endpoint, { service, address, isFor });
    }
  }
  return found;
}

function routesText(routes: ServiceRoutes): string {
  const { targets, limits, mirror } = routes;
  const bounds = limits.map(({ limit, says, mode }) => `; ${limit}: ${says}${mode === 'audit' ? ' (audit)' : ''}`);
  const faults = faultsNow(routes).map(({ says, percent }) => `; ${says} for ${percent} %`);
  const copies = mirror === null || mirror.percent === 0 ? '' : `; mirror to ${mirror.to} for ${mirror.percent} %`;
  return `${targetsText(targets)}${faults.join('')}${copies}${bounds.join('')}`;
}

function faultsNow({ faults }: ServiceRoutes): RoutedFault[] {
  return faults.filter(({ percent, isExpired }) => percent > 0 && !isExpired);
}

function targetsText(targets: readonly RoutedTarget[]): string {
  return targets
    .filter(({ share }) => share > 0)
    .map(({ subset, backend, share, balancing, problem, endpoints }) => {
      const part = targets.length === 1 ? '' : ` ${Number((100 * share).toFixed(1))} %`;
      const what = problem === null ? `${balancing}, ${endpoints.length} of its endpoints` : 'refused';
      return `${backend ?? subset ?? 'all'}${part} (${what})`;
    })
    .join(', ');
}

function isRefusing(routes: ServiceRoutes): boolean {
  const { targets } = routes;
  if (faultsNow(routes).some(({ fault }) => fault === 'abort')) return true;
  return targets.some(({ share, problem }) => share > 0 && problem !== null);
}
