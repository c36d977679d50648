import { isIpv6, type HostPort } from '../../../shared/address.js';
import type {
  CompiledDestinationRule,
  DestinationSubset,
  OutlierPolicy,
  TrafficPolicy,
  TrafficRoute,
} from '../../../shared/policy/snapshot.js';
import {
  resolveDestination,
  type Destination,
  type Endpoint,
  type ServiceDestination,
} from '../../../shared/routing/destination.js';
import { widerPlaces } from '../../../shared/routing/nearest.js';
import { localityOf } from '../../../shared/routing/locality.js';
import { serviceName } from '../../../shared/routing/names.js';
import { routeTarget, routeText } from '../../../shared/routing/steering.js';
import type { Locality, RegistryService } from '../../../shared/routing/registry-entry.js';
import type { ConnectionRecord } from '../connection/connection-record.js';
import { refused, type Refused } from '../connection/ending.js';
import { allUsable, type UsableEndpoints } from '../balance/endpoint-health.js';
import { countedDestination, type CountedDestination } from '../report/counted-destination.js';
import type { FlowContext } from './flow-context.js';
import type { Arrival, Identified } from './identify.js';

/** `among`: the endpoints that there are, ejected ones included. */
type ChosenHealth = {
  readonly counted: CountedDestination;
  readonly policy: OutlierPolicy;
  readonly among: readonly Endpoint[];
  readonly isPanic: boolean;
};

/** Endpoints in the order in which to try them, and what is said of connections to them. */
export type Chosen = {
  readonly ok: true;
  readonly endpoints: readonly Endpoint[];
  /** Where they are only the near ones and fewer than may be tried: others, to be tried after them. */
  readonly further: (() => readonly Endpoint[]) | null;
  readonly policy: TrafficPolicy | null;
  /** Null: the workload, or an address outside the mesh, was dialled itself. */
  readonly service: RegistryService | null;
  /** The route that leads it; null: none does. */
  readonly route: TrafficRoute | null;
  /** What decides which of them fail too often; null: nothing does. */
  readonly health: ChosenHealth | null;
  /** For the record, where there is no endpoint: `shop/web`, or `subset v2 of shop/web`. */
  readonly of: string;
  /** What the rule of `policy` counts it with; null: there is no rule. */
  readonly counted: CountedDestination | null;
};

type Judged = Pick<ChosenHealth, 'counted' | 'policy'>;
type Among = { readonly among: readonly Endpoint[]; readonly usable: UsableEndpoints };
/** `wider`: places to look at in turn when what is near cannot be used. */
type Asked = {
  readonly context: FlowContext;
  readonly service: RegistryService | null;
  readonly dialled: HostPort;
  readonly subset: DestinationSubset | null;
  readonly wider: readonly (Locality | null)[];
  readonly judged: Judged | null;
};

type Steered = {
  readonly ok: true;
  readonly destination: Destination;
  readonly rule: CompiledDestinationRule | null;
  readonly policy: TrafficPolicy | null;
  readonly subset: DestinationSubset | null;
  readonly route: TrafficRoute | null;
};

/** The step "routed": what was dialled, and which endpoints of it the documents choose. Names the service in the record. */
export function chooseEndpoints({ context, connection }: Arrival, identified: Identified): Chosen | Refused {
  const { record } = connection;
  const { dialled, client, entry } = identified;
  const { registry, lists } = context.state;
  const from = localityOf(entry);
  const destination = resolveDestination(registry, dialled, from, lists.resolve);
  if (destination.kind === 'external') record.service = context.nameExternal(dialled.ip, dialled.port);
  else if (destination.service !== null) record.service = serviceName(destination.service);
  const steered =
    destination.kind === 'service' ? steer(context, record, destination, identified) : unsteered(destination);
  if (!steered.ok) return steered;
  // No object is spread below: that takes longer than the choice.
  const { route, subset, policy, rule } = steered;
  const atMost = 1 + (route?.attempts ?? context.settings.connectRetries);
  const of = `${subset === null ? '' : `subset ${subset.name} of `}${record.service}`;
  const { service } = steered.destination;
  const counted =
    rule === null || service === null ? null : countedDestination(rule, service, { subset, dialledPort: dialled.port });
  const outliers = policy?.outliers;
  let judged: Judged | null = null;
  if (outliers !== undefined && counted !== null) {
    // A service of both families has two lists, whose shares of ejected endpoints are counted apart.
    const ofFamily = isIpv6(dialled.ip) ? { ...counted, key: `${counted.key} ipv6` } : counted;
    judged = { counted: ofFamily, policy: outliers };
  }
  const wider = service === null ? [] : widerPlaces(from, service.distribution);
  const near = {
    among: steered.destination.endpoints,
    usable: usableOf(context, judged, steered.destination.endpoints),
  };
  const isLeft = !near.usable.isNone && !near.usable.isPanic;
  const asked = { context, service, dialled, subset, wider, judged };
  const { among, usable } = isLeft || wider.length === 0 ? near : widened(asked, near);
  if (usable.isNone) return refused('CIRCUIT_OPEN', allEjected(among.length, of));
  const { isPanic, isUsable } = usable;
  const health = judged === null ? null : { counted: judged.counted, policy: judged.policy, among, isPanic };
  const how = { dialledPort: dialled.port, client: client.ip, policy, atMost, isUsable };
  const taken = among === near.among ? steered.destination : { ...steered.destination, endpoints: among };
  const endpoints = context.balancer.order(taken as Destination, how);
  const further = wider.length > 0 && endpoints.length < atMost ? furtherThan(asked, endpoints, atMost) : null;
  return { ok: true, endpoints, further, service, policy, route, of, counted, health };
}

function usableOf({ health }: FlowContext, judged: Judged | null, endpoints: readonly Endpoint[]): UsableEndpoints {
  return judged === null ? allUsable : health.usable(judged.counted, endpoints, judged.policy);
}

/** What a client gets where too few of the endpoints near to it are left: those of the next place, and then of all. */
function widened({ context, service, dialled, subset, wider, judged }: Asked, near: Among): Among {
  let found = near;
  if (service === null) return found;
  for (const place of wider) {
    if (!found.usable.isNone && !found.usable.isPanic) break;
    const among = context.state.lists.resolve(service, dialled, place, subset);
    const usable = usableOf(context, judged, among);
    if (among.length > found.among.length && (!usable.isNone || found.usable.isNone)) found = { among, usable };
  }
  return found;
}

/** As many more as may be tried, the nearest first. */
function furtherThan(
  { context, service, dialled, subset, wider, judged }: Asked,
  near: readonly Endpoint[],
  atMost: number,
): () => readonly Endpoint[] {
  return () => {
    const found: Endpoint[] = [];
    for (const place of wider) {
      const all = service === null ? [] : context.state.lists.resolve(service, dialled, place, subset);
      const { isNone, isUsable: isLeft } = usableOf(context, judged, all);
      const isUsable = (endpoint: Endpoint): boolean =>
        isLeft?.(endpoint) !== false &&
        ![...near, ...found].some(({ address }) => isSameAddress(address, endpoint.address));
      const wanted = { atMost: atMost - near.length - found.length, isUsable };
      if (!isNone && wanted.atMost > 0) found.push(...context.balancer.others(all, wanted));
    }
    return found;
  };
}

function isSameAddress(a: HostPort, b: HostPort): boolean {
  return a.ip === b.ip && a.port === b.port;
}

/** The detail of a refusal. */
export function allEjected(count: number, of: string): string {
  return `all ${count} endpoints of ${of} are ejected, or tried by another connection (outlierDetection)`;
}

function unsteered(destination: Destination): Steered {
  return { ok: true, destination, rule: null, policy: null, subset: null, route: null };
}

/** First the VirtualService, then the DestinationRule, as in Istio. Costs nothing where the rules have neither. */
function steer(
  context: FlowContext,
  record: ConnectionRecord,
  destination: ServiceDestination,
  { dialled, entry }: Identified,
): Steered | Refused {
  const { trafficPolicies: policies, lists } = context.state;
  if (policies === null) return unsteered(destination);
  const { namespace, labels } = entry;
  const connection = { client: { namespace, labels }, dialled, from: localityOf(entry) };
  const route = policies.routeFor(destination.service, connection);
  const subset = route === null ? null : context.balancer.choose(route.choices);
  if (route !== null) record.route = { route: routeText(route), subset };
  const drawn = route === null || subset === null ? null : { route, subset };
  const target = routeTarget({ resolve: lists.resolve, policies }, destination, connection, drawn);
  if (!target.ok) return refused('NO_ENDPOINT', target.detail);
  const taken = route?.document.routes[route.index] ?? null;
  const { rule, policy } = target;
  return { ok: true, destination: target.destination, rule, policy, subset: target.subset, route: taken };
}
