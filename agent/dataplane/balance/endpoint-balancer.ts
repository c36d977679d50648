import { assertNever } from '../../../shared/assert-never.js';
import type { IpAddress } from '../../../shared/address.js';
import type { TrafficPolicy, WeightedSubset } from '../../../shared/policy/snapshot.js';
import type { Destination, Endpoint } from '../../../shared/routing/destination.js';
import { serviceName } from '../../../shared/routing/names.js';
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
};

/**
 * Orders the endpoints of a service as its DestinationRule says. Without one: round robin for each service and port, with a
 * random start so that the workers of all nodes do not begin at the same endpoint, and by the client's address where the
 * service is sticky.
 */
export class EndpointBalancer {
  readonly #cursors = new Map<string, number>();
  readonly #random: () => number;
  readonly #loads: EndpointLoads;

  /** `random`: from 0 to just below 1. `nowMs`: a clock that is never set back. */
  constructor(init: { readonly random: () => number; readonly nowMs: () => number }) {
    this.#random = init.random;
    this.#loads = new EndpointLoads({ nowMs: init.nowMs });
  }

  /** Endpoints in the order in which to try them, `atMost` of them. Each is there once, so a retry never meets one that failed. */
  order(destination: Destination, { dialledPort, client, policy, atMost }: Dial): readonly Endpoint[] {
    const { endpoints, service } = destination;
    if (endpoints.length < 2 || service === null) return endpoints;
    const balancing = policy?.balancing ?? (service.isSticky === true ? 'source-ip' : 'round-robin');
    switch (balancing) {
      case 'round-robin':
        return this.#inTurns(endpoints, `${serviceName(service)}:${dialledPort}${subsetKey(destination)}`, atMost);
      case 'source-ip':
        return stickyOrder(endpoints, client, atMost);
      case 'random':
        return drawn(endpoints, atMost, this.#random);
      case 'least-connections':
        return this.#lightestFirst(endpoints, atMost);
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

  /** Drops all positions; services start at a random endpoint again. */
  reset(): void {
    this.#cursors.clear();
  }

  #inTurns(endpoints: readonly Endpoint[], key: string, atMost: number): readonly Endpoint[] {
    const start = (this.#cursors.get(key) ?? Math.floor(this.#random() * endpoints.length)) % endpoints.length;
    this.#cursors.set(key, start + 1);
    const first = endpoints.slice(start, start + atMost);
    return first.length === atMost ? first : [...first, ...endpoints.slice(0, Math.min(start, atMost - first.length))];
  }

  /**
   * The lighter of two random ones is first (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing"): the
   * lightest of all would get the connections of every worker and node at once.
   */
  #lightestFirst(endpoints: readonly Endpoint[], atMost: number): readonly Endpoint[] {
    const [first, second, ...others] = drawn(endpoints, Math.max(2, atMost), this.#random);
    if (first === undefined || second === undefined) return endpoints;
    const pair = this.#loads.isLighter(second, first) ? [second, first] : [first, second];
    return [...pair, ...others].slice(0, atMost);
  }
}

function subsetKey({ subset = '' }: { readonly subset?: string }): string {
  return subset === '' ? '' : ` ${subset}`;
}
