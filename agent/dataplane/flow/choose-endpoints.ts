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
import { serviceName } from '../../../shared/routing/names.js';
import { routeTarget, routeText } from '../../../shared/routing/steering.js';
import type { ConnectionRecord } from '../connection/connection-record.js';
import { refused, type Refused } from '../connection/ending.js';
import { countedDestination, type CountedDestination } from '../report/counted-destination.js';
import type { FlowContext } from './flow-context.js';
import type { Arrival, Identified } from './identify.js';

/** `among`: how many endpoints there are, ejected ones included. */
type ChosenHealth = {
  readonly counted: CountedDestination;
  readonly policy: OutlierPolicy;
  readonly among: number;
  readonly isPanic: boolean;
};

/** Endpoints in the order in which to try them, and what is said of connections to them. */
export type Chosen = {
  readonly ok: true;
  readonly endpoints: readonly Endpoint[];
  readonly policy: TrafficPolicy | null;
  /** The route that leads it; null: none does. */
  readonly route: TrafficRoute | null;
  /** What decides which of them fail too often; null: nothing does. */
  readonly health: ChosenHealth | null;
  /** For the record, where there is no endpoint: `shop/web`, or `subset v2 of shop/web`. */
  readonly of: string;
  /** What the rule of `policy` counts it with; null: there is no rule. */
  readonly counted: CountedDestination | null;
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
  const destination = resolveDestination(context.state.registry, dialled, entry.locality ?? null);
  if (destination.kind === 'external') record.service = context.nameExternal(dialled.ip, dialled.port);
  else if (destination.service !== null) record.service = serviceName(destination.service);
  const steered =
    destination.kind === 'service' ? steer(context, record, destination, identified) : unsteered(destination);
  if (!steered.ok) return steered;
  const { route } = steered;
  const atMost = 1 + (route?.attempts ?? context.settings.connectRetries);
  const how = { dialledPort: dialled.port, client: client.ip, policy: steered.policy, atMost };
  const { subset, policy, rule } = steered;
  const of = `${subset === null ? '' : `subset ${subset.name} of `}${record.service}`;
  const counted = rule === null ? null : countedDestination(rule, of, dialled.port);
  const rest = { ok: true, policy, route, of, counted } as const;
  const outliers = policy?.outliers;
  if (outliers === undefined || counted === null || steered.destination.kind !== 'service') {
    return { ...rest, endpoints: context.balancer.order(steered.destination, how), health: null };
  }
  const all = steered.destination.endpoints;
  const { endpoints, isPanic } = context.health.usable(counted, all, outliers);
  if (endpoints.length === 0 && all.length > 0) return refused('CIRCUIT_OPEN', allEjected(all.length, of));
  const health = { counted, policy: outliers, among: all.length, isPanic };
  return { ...rest, endpoints: context.balancer.order({ ...steered.destination, endpoints }, how), health };
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
  const { trafficPolicies: policies, registry } = context.state;
  if (policies === null) return unsteered(destination);
  const { namespace, labels, locality = null } = entry;
  const connection = { client: { namespace, labels }, dialled, from: locality };
  const route = policies.routeFor(destination.service, connection);
  const subset = route === null ? null : context.balancer.choose(route.choices);
  if (route !== null) record.route = { route: routeText(route), subset };
  const drawn = route === null || subset === null ? null : { route, subset };
  const target = routeTarget({ registry, policies }, destination, connection, drawn);
  if (!target.ok) return refused('NO_ENDPOINT', target.detail);
  return { ...target, route: route?.document.routes[route.index] ?? null };
}
