import { formatHostPort } from '../../../shared/address.js';
import type { Clock } from '../../../shared/policy/connection.js';
import type { Snapshot } from '../../../shared/policy/snapshot.js';
import type {
  Balancing,
  CompiledDestinationRule,
  CompiledRateLimit,
  TrafficPolicy,
  WeightedSubset,
} from '../../../shared/policy/traffic-documents.js';
import type { HostPort, IpAddress } from '../../../shared/address.js';
import {
  resolveService,
  type Endpoint,
  type ResolveEndpoints,
  type ServiceDestination,
} from '../../../shared/routing/destination.js';
import { localityOf } from '../../../shared/routing/locality.js';
import { hasExpired, writtenFaults, type WrittenFault } from '../../../shared/routing/faults.js';
import { mirrorChoice, mirrorText } from '../../../shared/routing/mirrors.js';
import { serviceName, workloadName } from '../../../shared/routing/names.js';
import { widerPlaces } from '../../../shared/routing/nearest.js';
import type { Locality, RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { RegistryView } from '../../../shared/routing/registry-view.js';
import { limitText } from '../../../shared/routing/rate-limits.js';
import {
  choiceText,
  routeTarget,
  routeText,
  type RouteTarget,
  type SteeredConnection,
} from '../../../shared/routing/steering.js';
import { balancingOf } from '../../../shared/routing/balancing.js';
import { stickyOrder } from '../../../shared/routing/sticky-order.js';
import { TrafficPolicies } from '../../../shared/routing/traffic-policies.js';
import { serviceOf } from './route-backends.js';
import type { RouteFound } from '../../../shared/routing/traffic-routes.js';
import { ejectedBy, ejectionsOf, type Agents, type EjectedBy } from './ejections.js';

/** Where connections of one workload to one port of a service go. */
export type ServiceRoutes = {
  /** `VirtualService/shop/web spec.tcp[1]`; null: no route matches, so all endpoints of the service are meant. */
  readonly route: string | null;
  /** `DestinationRule/shop/web`; null: none is for them. */
  readonly rule: string | null;
  /** What the route has done on purpose to some of them. */
  readonly faults: readonly RoutedFault[];
  /** Where the route has copies of some of them sent; null: nowhere. */
  readonly mirror: RoutedMirror | null;
  /** RateLimits that must let them pass: of the service, and of those that its route leads to. */
  readonly limits: readonly RoutedLimit[];
  readonly targets: readonly RoutedTarget[];
};

/** `limit`: `RateLimit/billing/ledger`. `of`: whose budget it is. `says`: what it has. */
export type RoutedLimit = Pick<CompiledRateLimit, 'mode'> & {
  readonly limit: string;
  readonly of: string;
  readonly says: string;
};

/** `percent`: of new connections. `says`: `delay of 2s`. `expiresAt`: RFC 3339; null: no end is written. */
export type RoutedFault = Pick<WrittenFault, 'fault' | 'says' | 'percent'> & {
  readonly expiresAt: string | null;
  /** It has no effect any more. */
  readonly isExpired: boolean;
};

/** `to`: `shop/web-v2:80`. `percent`: of new connections. `problem`: why none reaches it; null: nothing is known to be wrong. */
export type RoutedMirror = { readonly to: string; readonly percent: number; readonly problem: string | null };

/** One destination of a route. */
export type RoutedTarget = {
  /** Null: all endpoints of the service. */
  readonly subset: string | null;
  /** Another service and its port, `shop/web-v2:80`; null: the service that was dialled. */
  readonly backend: string | null;
  /** The DestinationRule that counts for it; null: none does. */
  readonly rule: string | null;
  /** Of new connections, from 0 to 1. */
  readonly share: number;
  /** How its endpoints share them. */
  readonly balancing: Balancing;
  /** What the rule says of connections to it; null: there is no rule, or it does not have the subset. */
  readonly policy: TrafficPolicy | null;
  /** Why connections to it are refused; null: they are not. */
  readonly problem: string | null;
  readonly endpoints: readonly RoutedEndpoint[];
  /** Those that connections go to when `endpoints` cannot be reached, or too few of them are left; the nearest come first. */
  readonly farther: readonly RoutedEndpoint[];
};

export type RoutedEndpoint = {
  /** `namespace/name`; null: an address outside the mesh. */
  readonly workload: string | null;
  /** Address and port. */
  readonly address: string;
  /**
   * That a new connection is for it, from 0 to 1, while none is ejected; with `least-connections` while equally many are open to
   * each endpoint. Null: it depends on an address of the client that is not known.
   */
  readonly probability: number | null;
  /** By the agent of the client, by this rule; at most one. */
  readonly ejected: readonly EjectedBy[];
};

/** Answers with the functions that agents call for each connection. */
export class TrafficView {
  readonly #registry: RegistryView;
  readonly #policies: TrafficPolicies;
  readonly #clock: Clock;
  readonly #agents: Agents;

  /** Owns nothing of it. `agents`: absent: what they have ejected is not known. */
  constructor(init: {
    readonly snapshot: Snapshot;
    readonly registry: RegistryView;
    readonly clock: Clock;
    readonly agents?: Agents;
  }) {
    const { snapshot, registry, clock } = init;
    this.#registry = registry;
    this.#clock = clock;
    this.#agents = init.agents ?? [];
    this.#policies = new TrafficPolicies(snapshot);
  }

  /** Where a workload's connections go that it opens to `dialled`, an address of the service. */
  routesTo(service: RegistryService, client: WorkloadEntry, dialled: HostPort): ServiceRoutes {
    const { namespace, labels } = client;
    const locality = localityOf(client);
    const connection = { client: { namespace, labels }, dialled, from: locality };
    const whole: ServiceDestination = {
      kind: 'service',
      service,
      endpoints: resolveService(this.#registry, service, dialled, locality),
    };
    const found = this.#policies.routeFor(service, connection);
    const rule = this.#policies.ruleFor(service, namespace);
    const choices = found === null ? [everyEndpoint] : found.choices;
    const sum = choices.reduce((total, { weight }) => total + weight, 0);
    const source = clientAddress(client, dialled);
    const targets = choices.map((choice) => {
      const share = choices.length === 1 ? 1 : choice.weight / sum;
      const { subset, backend } = choice;
      const drawn = found === null ? null : { route: found, choice };
      const target = this.#target(whole, connection, drawn, { share, source, node: client.node });
      return {
        subset,
        backend: backend === undefined ? null : choiceText({ subset: null, backend }),
        share,
        ...target,
      };
    });
    const backends = choices.flatMap((choice) => {
      const led = choice.weight === 0 ? null : serviceOf(this.#registry, choice);
      return led === null ? [] : [led];
    });
    const limits = this.#policies.limitsFor(client, [{ service, port: dialled.port }, ...backends]) ?? [];
    return {
      route: found === null ? null : routeText(found),
      rule: ruleText(rule),
      faults: found === null ? [] : this.#faultsOf(found),
      mirror: found === null ? null : this.#mirrorOf(whole, connection, found),
      limits: limits.map(({ name, of, document }) => ({
        limit: name,
        of,
        says: limitText(document),
        mode: document.mode,
      })),
      targets,
    };
  }

  #mirrorOf(whole: ServiceDestination, connection: SteeredConnection, route: RouteFound): RoutedMirror | null {
    const mirror = route.document.routes[route.index]?.mirror;
    if (mirror === undefined) return null;
    const { dialled } = connection;
    const resolve: ResolveEndpoints = (...asked) => resolveService(this.#registry, ...asked);
    const known = { resolve, registry: this.#registry, policies: this.#policies };
    const target = routeTarget(known, whole, connection, { route, choice: mirrorChoice(mirror, dialled) });
    const hasNone =
      target.ok && target.destination.endpoints.length + this.#fartherOf(target, connection.from).length === 0;
    const problem = target.ok ? (hasNone ? `has no endpoint for port ${target.at.port}` : null) : target.detail;
    return { to: mirrorText(mirror, dialled), percent: mirror.percent, problem };
  }

  #faultsOf({ document, index }: RouteFound): RoutedFault[] {
    const nowMs = this.#clock.nowMs();
    return writtenFaults(document.routes[index]?.faults ?? {}).map((fault) => ({
      fault: fault.fault,
      says: fault.says,
      percent: fault.percent,
      expiresAt: fault.expiresAtMs === undefined ? null : new Date(fault.expiresAtMs).toISOString(),
      isExpired: hasExpired(fault, nowMs),
    }));
  }

  #target(
    whole: ServiceDestination,
    connection: SteeredConnection,
    drawn: Parameters<typeof routeTarget>[3],
    {
      share,
      source,
      node,
    }: { readonly share: number; readonly source: IpAddress | null; readonly node: WorkloadEntry['node'] },
  ): Omit<RoutedTarget, 'subset' | 'backend' | 'share'> {
    const resolve: ResolveEndpoints = (...asked) => resolveService(this.#registry, ...asked);
    const target = routeTarget(
      { resolve, registry: this.#registry, policies: this.#policies },
      whole,
      connection,
      drawn,
    );
    if (!target.ok) {
      const balancing = balancingOf(whole.service, null);
      return { rule: null, balancing, policy: null, problem: target.detail, endpoints: [], farther: [] };
    }
    const { endpoints, service } = target.destination;
    const balancing = balancingOf(service, target.policy);
    const problem = endpoints.length === 0 ? `has no endpoint for port ${target.at.port}` : null;
    const first = balancing === 'source-ip' && source !== null ? stickyOrder(endpoints, source, 1)[0] : undefined;
    const probabilityOf = (endpoint: Endpoint): number | null => {
      if (endpoints.length === 1) return share;
      if (balancing === 'source-ip') return first === undefined ? null : endpoint === first ? share : 0;
      return share / endpoints.length;
    };
    const port = `${serviceName(service)}:${target.at.port}`;
    const of = target.subset === null ? port : `subset ${target.subset.name} of ${port}`;
    const ejections = ejectionsOf(
      this.#agents,
      (each) =>
        each.node === node && each.destination === of && `DestinationRule/${each.rule ?? ''}` === ruleText(target.rule),
    );
    const routed = (endpoint: Endpoint, probability: number | null): RoutedEndpoint => {
      const workload = endpoint.workload === null ? null : workloadName(endpoint.workload);
      const address = formatHostPort(endpoint.address);
      return { workload, address, probability, ejected: ejectedBy(ejections, { workload, address }) };
    };
    return {
      rule: ruleText(target.rule),
      balancing,
      policy: target.policy,
      problem,
      endpoints: endpoints.map((endpoint) => routed(endpoint, probabilityOf(endpoint))),
      farther: this.#fartherOf(target, connection.from).map((endpoint) => routed(endpoint, 0)),
    };
  }

  /** A service that has no near endpoint gives the farther ones at once. */
  #fartherOf({ destination, at, subset }: RouteTarget, from: Locality | null): Endpoint[] {
    const { service, endpoints } = destination;
    const seen = new Set(endpoints.map(({ address }) => formatHostPort(address)));
    return widerPlaces(from, service.distribution).flatMap((place) =>
      resolveService(this.#registry, service, at, place, subset).filter(({ address }) => {
        const text = formatHostPort(address);
        const isNew = !seen.has(text);
        seen.add(text);
        return isNew;
      }),
    );
  }
}

const everyEndpoint: WeightedSubset = { subset: null, weight: 1 };

function ruleText(rule: CompiledDestinationRule | null): string | null {
  return rule === null ? null : `DestinationRule/${rule.namespace}/${rule.name}`;
}

/** The address by which a client of several is known: of the family that it dials. */
function clientAddress({ addresses }: WorkloadEntry, { ip }: HostPort): IpAddress | null {
  return addresses.find((address) => address.includes(':') === ip.includes(':')) ?? addresses[0] ?? null;
}
