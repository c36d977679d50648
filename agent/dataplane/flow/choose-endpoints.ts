import type { HostPort, IpAddress } from '../../../shared/address.js';
import type {
  OutlierPolicy,
  RouteFaults,
  TrafficPolicy,
  TrafficRoute,
} from '../../../shared/policy/traffic-documents.js';
import type { Endpoint } from '../../../shared/routing/destination.js';
import { drawnFaults, type DrawnFaults } from '../../../shared/routing/faults.js';
import { isMirrored } from '../../../shared/routing/mirrors.js';
import type { PlannedLimit } from '../../../shared/routing/rate-limits.js';
import type { RegistryService } from '../../../shared/routing/registry-entry.js';
import { refused, type Refused } from '../connection/ending.js';
import { allUsable, type UsableEndpoints } from '../balance/endpoint-health.js';
import type { CountedDestination } from '../report/counted-destination.js';
import type { Judged, MissedTarget, PlannedTarget } from '../route/service-plans.js';
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
  /** What the route has done to it on purpose; null: nothing. */
  readonly faults: DrawnFaults | null;
  /** Where a copy of what its client sends goes; null: nowhere. */
  readonly mirror: PlannedTarget | MissedTarget | null;
  /** What decides which of them fail too often; null: nothing does. */
  readonly health: ChosenHealth | null;
  /** For the record, where there is no endpoint: `shop/web`, or `subset v2 of shop/web`. */
  readonly of: string;
  /** Of `of`: what was dialled, or what the route leads to. */
  readonly port: number;
  /** What the rule of `policy` counts it with; null: there is no rule. */
  readonly counted: CountedDestination | null;
  /** RateLimits that must let it pass; null: there is none. */
  readonly limits: readonly PlannedLimit[] | null;
};

type Asked = { readonly context: FlowContext; readonly target: PlannedTarget };
type Among = { readonly among: readonly Endpoint[]; readonly usable: UsableEndpoints };

/** The step "routed": what was dialled, and which endpoints of it the documents choose. Names the service in the record. */
export function chooseEndpoints(
  { context, connection }: Arrival,
  { dialled, client, entry }: Identified,
): Chosen | Refused {
  const { record } = connection;
  const { state, balancer, settings } = context;
  const plan = state.plans.find(entry, dialled, state.trafficPolicies);
  if (plan.kind === 'external') record.service = context.nameExternal(dialled.ip, dialled.port);
  if (plan.kind !== 'service') {
    const { endpoints, service } = plan;
    const of = `${record.service}`;
    const plain = { policy: null, route: null, faults: null, mirror: null, counted: null, health: null, limits: null };
    return { ok: true, endpoints, further: null, service, of, port: dialled.port, ...plain };
  }
  record.service = plan.name;
  const { route } = plan;
  const target = plan.target(route === null ? 0 : balancer.choose(route.choices));
  record.route = target.taken;
  if (!target.ok) return refused('NO_ENDPOINT', target.detail);
  const taken = route?.document.routes[route.index] ?? null;
  const atMost = 1 + (taken?.attempts ?? settings.connectRetries);
  const faults = taken?.faults === undefined ? null : drawnNow(context, taken.faults);
  const isCopied = taken?.mirror !== undefined && isMirrored(taken.mirror, context.random);
  const mirror = isCopied ? plan.mirror() : null;
  return chooseAmong({ context, target }, { client: client.ip, atMost, route: taken, faults, mirror });
}

/** Endpoints of a target in the order in which to try them. */
export function chooseAmong(
  { context, target }: Asked,
  {
    client,
    atMost,
    route,
    faults,
    mirror,
    isCopy = false,
  }: Pick<Chosen, 'route' | 'faults' | 'mirror'> & {
    readonly client: IpAddress;
    readonly atMost: number;
    /** For a shadow; absent: no. */
    readonly isCopy?: boolean;
  },
): Chosen | Refused {
  const { balancer } = context;
  const { destination, policy, counted, judged, wider, limits, of, at } = target;
  const { service } = destination;
  let among = destination.endpoints;
  let usable = usableOf(context, judged, among);
  if (wider.length > 0 && (usable.isNone || usable.isPanic)) {
    ({ among, usable } = widened({ context, target }, { among, usable }));
  }
  const { isNone, isPanic, isUsable } = usable;
  if (isNone) return refused('CIRCUIT_OPEN', allEjected(among.length, of));
  const health = judged === null ? null : { counted: judged.counted, policy: judged.policy, among, isPanic };
  const how = { dialledPort: at.port, client, policy, atMost, isUsable, isCopy };
  // No object is spread where nothing is wrong: that takes longer than the choice.
  const from = among === destination.endpoints ? destination : { ...destination, endpoints: among };
  const endpoints = balancer.order(from, how);
  const isShort = wider.length > 0 && endpoints.length < atMost;
  const further = isShort ? furtherThan({ context, target }, endpoints, atMost) : null;
  const port = at.port;
  return { ok: true, endpoints, further, service, policy, route, faults, mirror, of, port, counted, health, limits };
}

function drawnNow({ clock, random }: FlowContext, faults: RouteFaults): DrawnFaults | null {
  return drawnFaults(faults, { nowMs: clock.nowMs(), random });
}

function usableOf({ health }: FlowContext, judged: Judged | null, endpoints: readonly Endpoint[]): UsableEndpoints {
  return judged === null ? allUsable : health.usable(judged.counted, endpoints, judged.policy);
}

/** What a client gets where too few of the endpoints near to it are left: those of the next place, and then of all. */
function widened({ context, target }: Asked, near: Among): Among {
  const { destination, subset, wider, judged, at } = target;
  let found = near;
  for (const place of wider) {
    if (!found.usable.isNone && !found.usable.isPanic) break;
    const among = context.state.lists.resolve(destination.service, at, place, subset);
    const usable = usableOf(context, judged, among);
    if (among.length > found.among.length && (!usable.isNone || found.usable.isNone)) found = { among, usable };
  }
  return found;
}

/** As many more as may be tried, the nearest first. */
function furtherThan({ context, target }: Asked, near: readonly Endpoint[], atMost: number): () => readonly Endpoint[] {
  return () => {
    const { destination, subset, wider, judged, at } = target;
    const found: Endpoint[] = [];
    for (const place of wider) {
      const all = context.state.lists.resolve(destination.service, at, place, subset);
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
