import { isIpv6, type HostPort } from '../../../shared/address.js';
import type { OutlierPolicy, WeightedSubset } from '../../../shared/policy/traffic-documents.js';
import { resolveDestination, type Destination, type ServiceDestination } from '../../../shared/routing/destination.js';
import { localityOf } from '../../../shared/routing/locality.js';
import { mirrorChoice } from '../../../shared/routing/mirrors.js';
import { serviceName, type ServiceName } from '../../../shared/routing/names.js';
import { widerPlaces } from '../../../shared/routing/nearest.js';
import type { Locality, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import {
  choiceText,
  routeTarget,
  routeText,
  type MissingTarget,
  type RouteTarget,
  type SteeredConnection,
} from '../../../shared/routing/steering.js';
import type { PlannedLimit } from '../../../shared/routing/rate-limits.js';
import type { TrafficPolicies } from '../../../shared/routing/traffic-policies.js';
import type { RouteFound } from '../../../shared/routing/traffic-routes.js';
import type { RouteTaken } from '../report/closed-connection.js';
import { countedDestination, type CountedDestination } from '../report/counted-destination.js';
import type { EndpointLists } from './endpoint-lists.js';
import type { RegistryIndex } from './registry-index.js';

/** Plans that are kept of one client. They are made again when there are more. */
const maxPlans = 256;

/** What counts failures of endpoints, and when one has failed too often. */
export type Judged = { readonly counted: CountedDestination; readonly policy: OutlierPolicy };

/** What all connections get that are drawn for one destination of a route, or for the service where there is no route. */
export type PlannedTarget = RouteTarget & {
  /** For records. Null: no route leads them. */
  readonly taken: RouteTaken | null;
  /** `shop/web`, or `subset v2 of shop/web`. */
  readonly of: string;
  /** What its rule counts it with; null: there is no rule. */
  readonly counted: CountedDestination | null;
  /** Null: nothing is ejected. */
  readonly judged: Judged | null;
  /** Places to look at in turn when what is near cannot be used. */
  readonly wider: readonly (Locality | null)[];
  /** RateLimits that count for them, of the service that is dialled and of the one that it is; null: none does. */
  readonly limits: readonly PlannedLimit[] | null;
};
export type MissedTarget = MissingTarget & Pick<PlannedTarget, 'taken'>;

/** What new connections of one workload to one address of a service get. */
export type ServicePlan = {
  readonly kind: 'service';
  readonly name: ServiceName;
  readonly route: RouteFound | null;
  /** By the place of a choice of the route; without a route there is one. */
  readonly target: (at: number) => PlannedTarget | MissedTarget;
  /** Where copies of its connections go, as far as its route has any made. */
  readonly mirror: () => PlannedTarget | MissedTarget;
};

type ByAddress = Map<string, Map<number, ServicePlan>>;
type OfClient = { readonly plans: ByAddress; count: number };

/**
 * What the registry and the documents say of connections from a workload to a service, asked once and kept until either changes:
 * what is left of a choice then is chance, turns and the health of endpoints. Holds nothing of earlier rules or entries.
 */
export class ServicePlans {
  readonly #registry: RegistryIndex;
  readonly #lists: EndpointLists;
  #changes = -1;
  #policies: TrafficPolicies | null = null;
  #byClient = new WeakMap<WorkloadEntry, OfClient>();

  /** Owns neither. */
  constructor({ registry, lists }: { readonly registry: RegistryIndex; readonly lists: EndpointLists }) {
    this.#registry = registry;
    this.#lists = lists;
  }

  /** `policies` null: no document says anything. What is no service is returned as it was found. */
  find(
    client: WorkloadEntry,
    dialled: HostPort,
    policies: TrafficPolicies | null,
  ): ServicePlan | Exclude<Destination, ServiceDestination> {
    if (this.#changes !== this.#registry.changes || this.#policies !== policies) {
      this.#byClient = new WeakMap();
      this.#changes = this.#registry.changes;
      this.#policies = policies;
    }
    const known = this.#byClient.get(client)?.plans.get(dialled.ip)?.get(dialled.port);
    if (known !== undefined) return known;
    const destination = resolveDestination(this.#registry, dialled, localityOf(client), this.#lists.resolve);
    if (destination.kind !== 'service') return destination;
    const plan = this.#planFor(client, { ip: dialled.ip, port: dialled.port }, destination);
    this.#keep(client, dialled, plan);
    return plan;
  }

  #keep(client: WorkloadEntry, { ip, port }: HostPort, plan: ServicePlan): void {
    let ofClient = this.#byClient.get(client);
    if (ofClient === undefined || ofClient.count >= maxPlans) {
      ofClient = { plans: new Map(), count: 0 };
      this.#byClient.set(client, ofClient);
    }
    let byPort = ofClient.plans.get(ip);
    if (byPort === undefined) ofClient.plans.set(ip, (byPort = new Map()));
    byPort.set(port, plan);
    ofClient.count += 1;
  }

  #planFor(client: WorkloadEntry, dialled: HostPort, destination: ServiceDestination): ServicePlan {
    const { namespace, labels } = client;
    const connection = { client: { namespace, labels }, dialled, from: localityOf(client) };
    const route = this.#policies?.routeFor(destination.service, connection) ?? null;
    const targets: (PlannedTarget | MissedTarget)[] = [];
    const policies = this.#policies;
    const asked = { client, destination, connection, route, policies };
    const target = (at: number): PlannedTarget | MissedTarget =>
      (targets[at] ??= this.#targetOf(asked, route?.choices[at]));
    const written = route?.document.routes[route.index]?.mirror;
    let shadow: PlannedTarget | MissedTarget | null = null;
    const mirror = (): PlannedTarget | MissedTarget =>
      (shadow ??= this.#targetOf(asked, written === undefined ? undefined : mirrorChoice(written, dialled)));
    return { kind: 'service', name: serviceName(destination.service), route, target, mirror };
  }

  /** First the VirtualService, then the DestinationRule, as in Istio. */
  #targetOf(
    asked: {
      readonly client: WorkloadEntry;
      readonly destination: ServiceDestination;
      readonly connection: SteeredConnection;
      readonly route: RouteFound | null;
      readonly policies: TrafficPolicies | null;
    },
    choice: WeightedSubset | undefined,
  ): PlannedTarget | MissedTarget {
    const { client, destination: whole, connection, route, policies } = asked;
    const drawn = route === null || choice === undefined ? null : { route, choice };
    const taken = drawn === null ? null : { route: routeText(drawn.route), subset: choiceText(drawn.choice) };
    const target: RouteTarget | MissingTarget =
      policies === null
        ? { ok: true, destination: whole, rule: null, policy: null, subset: null, at: connection.dialled }
        : routeTarget({ resolve: this.#lists.resolve, registry: this.#registry, policies }, whole, connection, drawn);
    if (!target.ok) return { ...target, taken };
    const { service } = target.destination;
    const { rule, policy, at: dialled } = target;
    const { from } = connection;
    const counted =
      rule === null ? null : countedDestination(rule, service, { subset: target.subset, dialledPort: dialled.port });
    return {
      ...target,
      taken,
      of: `${target.subset === null ? '' : `subset ${target.subset.name} of `}${serviceName(service)}`,
      counted,
      judged: judgedBy(counted, policy?.outliers, dialled),
      wider: widerPlaces(from, service.distribution),
      limits:
        policies?.limitsFor(client, [
          { service: whole.service, port: connection.dialled.port },
          { service, port: dialled.port },
        ]) ?? null,
    };
  }
}

/** A service of both families has two lists, whose shares of ejected endpoints are counted apart. */
function judgedBy(
  counted: CountedDestination | null,
  policy: OutlierPolicy | undefined,
  { ip }: HostPort,
): Judged | null {
  if (counted === null || policy === undefined) return null;
  return { counted: isIpv6(ip) ? { ...counted, key: `${counted.key} ipv6` } : counted, policy };
}
