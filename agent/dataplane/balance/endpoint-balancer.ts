import { assertNever } from '../../../shared/assert-never.js';
import type { IpAddress } from '../../../shared/address.js';
import type { TrafficPolicy, WeightedSubset } from '../../../shared/policy/snapshot.js';
import type { Destination, Endpoint } from '../../../shared/routing/destination.js';
import type { RegistryService } from '../../../shared/routing/registry-entry.js';
import { drawnChoice } from '../../../shared/routing/traffic-routes.js';
import { EndpointLoads, type EndpointUse } from './endpoint-loads.js';
import { drawn } from './random-order.js';
import { stickyOrder } from '../../../shared/routing/sticky-order.js';

type Dial = {
  readonly dialledPort: number;
  readonly client: IpAddress;
  /** What a DestinationRule says; null: there is none. */
  readonly policy: TrafficPolicy | null;
  /** How many endpoints may be tried: at least one. */
  readonly atMost: number;
  /** Which of the endpoints may be tried; absent or null: all. */
  readonly isUsable?: ((endpoint: Endpoint) => boolean) | null;
};

/** Positions by port, of services and their subsets; those of a service that goes, or becomes another one, are forgotten. */
type Cursors = WeakMap<RegistryService, Map<string, Map<number, number>>>;
type Wanted = { readonly atMost: number; readonly isUsable: ((endpoint: Endpoint) => boolean) | null };

/**
 * Orders the endpoints of a service as its DestinationRule says. Without one: round robin for each service and port, with a
 * random start so that the workers of all nodes do not begin at the same endpoint, and by the client's address where the
 * service is sticky.
 */
export class EndpointBalancer {
  /** By service, subset and port: a text of all of them would be made and hashed for each connection. */
  readonly #cursors: Cursors = new WeakMap();
  readonly #random: () => number;
  readonly #loads: EndpointLoads;

  /** `random`: from 0 to just below 1. `nowMs`: a clock that is never set back. */
  constructor(init: { readonly random: () => number; readonly nowMs: () => number }) {
    this.#random = init.random;
    this.#loads = new EndpointLoads({ nowMs: init.nowMs });
  }

  /** Endpoints in the order in which to try them, `atMost` of them, each once: a retry never meets one that failed. */
  order(destination: Destination, { dialledPort, client, policy, atMost, isUsable = null }: Dial): readonly Endpoint[] {
    const { endpoints, service } = destination;
    if (service === null) return endpoints;
    if (endpoints.length < 2) return isUsable === null ? endpoints : endpoints.filter(isUsable);
    const balancing = policy?.balancing ?? (service.isSticky === true ? 'source-ip' : 'round-robin');
    switch (balancing) {
      case 'round-robin':
        return this.#inTurns(endpoints, {
          cursors: this.#cursorsOf(service, subsetOf(destination)),
          dialledPort,
          atMost,
          isUsable,
        });
      case 'source-ip':
        return stickyOrder(isUsable === null ? endpoints : endpoints.filter(isUsable), client, atMost);
      case 'random':
        return drawn(endpoints, { count: atMost, random: this.#random, isUsable });
      case 'least-connections':
        return this.#lightestFirst(endpoints, { atMost, isUsable });
      default:
        return assertNever(balancing);
    }
  }

  /** The subset that a new connection goes to, drawn by the weights; null: all endpoints of the service. */
  choose(choices: readonly WeightedSubset[]): string | null {
    return drawnChoice(choices, this.#random)?.subset ?? null;
  }

  /** Counts a connection to an endpoint that is chosen by their number; null: it is not. The caller owns what is returned. */
  begin(endpoint: Endpoint, policy: TrafficPolicy | null): EndpointUse | null {
    return policy?.balancing === 'least-connections' ? this.#loads.begin(endpoint) : null;
  }

  #cursorsOf(service: RegistryService, subset: string): Map<number, number> {
    const ofService = this.#cursors.get(service) ?? new Map<string, Map<number, number>>();
    const known = ofService.get(subset);
    if (known !== undefined) return known;
    const cursors = new Map<number, number>();
    ofService.set(subset, cursors);
    this.#cursors.set(service, ofService);
    return cursors;
  }

  #inTurns(
    endpoints: readonly Endpoint[],
    o: Wanted & { readonly cursors: Map<number, number>; readonly dialledPort: number },
  ): readonly Endpoint[] {
    const { cursors, dialledPort, atMost, isUsable } = o;
    const { length } = endpoints;
    const start = (cursors.get(dialledPort) ?? Math.floor(this.#random() * length)) % length;
    const found: Endpoint[] = [];
    for (let step = 0; step < length && found.length < atMost; step++) {
      const at = start + step < length ? start + step : start + step - length;
      const endpoint = endpoints[at];
      if (endpoint === undefined || isUsable?.(endpoint) === false) continue;
      // Those that are left out have no turn, and the one behind them has one of its own.
      if (found.length === 0) cursors.set(dialledPort, at + 1);
      found.push(endpoint);
    }
    return found;
  }

  /**
   * The lighter of two random ones is first (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"): the
   * lightest of all would get the connections of every worker and node at once.
   */
  #lightestFirst(endpoints: readonly Endpoint[], { atMost, isUsable }: Wanted): readonly Endpoint[] {
    const some = drawn(endpoints, { count: Math.max(2, atMost), random: this.#random, isUsable });
    const [first, second, ...others] = some;
    if (first === undefined || second === undefined) return some;
    const pair = this.#loads.isLighter(second, first) ? [second, first] : [first, second];
    return [...pair, ...others].slice(0, atMost);
  }
}

function subsetOf({ subset = '' }: { readonly subset?: string }): string {
  return subset;
}
