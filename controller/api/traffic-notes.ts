import type { Clock } from '../../shared/policy/connection.js';
import type { Snapshot } from '../../shared/policy/snapshot.js';
import { servedPort } from '../../shared/routing/destination.js';
import { faultsInEffect } from '../../shared/routing/faults.js';
import { localityOf } from '../../shared/routing/locality.js';
import { limitText } from '../../shared/routing/rate-limits.js';
import type { RegistryService, WorkloadEntry } from '../../shared/routing/registry-entry.js';
import { mirrorText } from '../../shared/routing/mirrors.js';
import { routeText } from '../../shared/routing/steering.js';
import { TrafficPolicies } from '../../shared/routing/traffic-policies.js';
import type { Candidate, DestinationCandidate } from './party-candidates.js';

type Asked = {
  readonly snapshot: Snapshot;
  readonly clock: Clock;
  readonly source: Candidate;
  readonly destination: DestinationCandidate;
  /** Null: the only one of the service. */
  readonly dialledPort: number | null;
};

/** What documents about traffic do to a connection that the rules allow, for people. */
export function trafficNotes({ snapshot, clock, source, destination, dialledPort }: Asked): string[] {
  const { service } = destination;
  const served = service === null ? undefined : servedPort(service, dialledPort);
  if (service === null || served === undefined || source.workload === null) return [];
  const policies = new TrafficPolicies(snapshot);
  const connection = { service, client: source.workload, port: served.port };
  return [...faultNotes(policies, clock, connection), ...limitNotes(policies, connection, destination)];
}

type Dialled = { readonly service: RegistryService; readonly client: WorkloadEntry; readonly port: number };

/** Which route counts may depend on the address of the service that is dialled, and the question need not name one. */
function faultNotes(policies: TrafficPolicies, clock: Clock, { service, client, port }: Dialled): string[] {
  const { namespace, labels } = client;
  const notes = service.vips.flatMap((ip) => {
    const asked = { client: { namespace, labels }, dialled: { ip, port }, from: localityOf(client) };
    const found = policies.routeFor(service, asked);
    if (found === null) return [];
    const { faults = {}, mirror } = found.document.routes[found.index] ?? {};
    const copies =
      mirror === undefined || mirror.percent === 0
        ? []
        : [
            `${routeText(found)} has ${mirror.percent} % of the connections copied to ${mirrorText(mirror, { port })}, which the rules must allow too.`,
          ];
    const made = faultsInEffect(faults, clock.nowMs()).map(({ says, percent, expiresAtMs }) => {
      const until = expiresAtMs === undefined ? '' : `, until ${new Date(expiresAtMs).toISOString()}`;
      return `${routeText(found)} does this to ${percent} % of the connections on purpose: ${says}${until}.`;
    });
    return [...made, ...copies];
  });
  return [...new Set(notes)];
}

/** RateLimits that count the connection: the agent of the source asks them when the rules have allowed it. */
function limitNotes(
  policies: TrafficPolicies,
  { service, client, port }: Dialled,
  { led }: DestinationCandidate,
): string[] {
  const found = policies.limitsFor(client, [{ service, port }, ...(led === undefined ? [] : [led])]) ?? [];
  return found.map(({ name, of, document }) => {
    const what = document.mode === 'audit' ? 'only counts what is more' : 'refuses what is more, or slows it down';
    return `${name} ${what}: ${limitText(document)} ${of}.`;
  });
}
