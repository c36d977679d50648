import { assertNever } from '../../../shared/assert-never.js';
import type { IpAddress } from '../../../shared/address.js';
import type { TrafficPolicy, WeightedSubset } from '../../../shared/policy/traffic-documents.js';
import type { Destination, Endpoint, ServiceDestination } from '../../../shared/routing/destination.js';
import type { RegistryService } from '../../../shared/routing/registry-entry.js';
import { balancingOf } from '../../../shared/routing/balancing.js';
import { drawnChoice } from '../../../shared/routing/traffic-routes.js';
import type { NewlyReady } from '../image/registry-image.js';
import { EndpointLoads, type EndpointUse } from './endpoint-loads.js';
import { EndpointWarmth } from './endpoint-warmth.js';
import type { WarmupPolicy } from '../../../shared/policy/warmup.js';
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
  /** Copies (`mirror`) have turns of their own: they would take those of every other connection that is served. */
  readonly isCopy?: boolean;
};

/** Positions by port, of services and their subsets; those of a service that goes, or becomes another one, are forgotten. */
type Cursors = WeakMap<RegistryService, Map<string, Map<number, number>>>;
type Wanted = { readonly atMost: number; readonly isUsable: ((endpoint: Endpoint) => boolean) | null };
type Turns = Wanted & { readonly cursors: Map<number, number>; readonly dialledPort: number };

/** This often a second endpoint is drawn until one is usable. */
const draws = 8;
/**
 * How many endpoints that are not warm are passed over for one connection. Where more are as cool, chance passes over the few
 * that are warm as well: they would get the connections of all others.
 */
const mostPassed = 64;

/**
 * Orders the endpoints of a service as its DestinationRule says. Without one: by open connections, and by the client's address
 * where the service is sticky. Turns are for each service and port, with a random start so that the workers of all nodes do not
 * begin at the same endpoint.
 */
export class EndpointBalancer {
  /** By service, subset and port: a text of all of them would be made and hashed for each connection. */
  readonly #cursors: Cursors = new WeakMap();
  readonly #random: () => number;
  readonly #loads: EndpointLoads;
  readonly #warmth: EndpointWarmth;

  /** `random`: from 0 to just below 1. `nowMs`: a clock that is never set back. */
  constructor(init: { readonly random: () => number; readonly nowMs: () => number }) {
    this.#random = init.random;
    this.#loads = new EndpointLoads({ nowMs: init.nowMs });
    this.#warmth = new EndpointWarmth({ nowMs: init.nowMs });
  }

  /** Of these the share grows from now on, where a rule says so. */
  noteReady(workloads: readonly NewlyReady[]): void {
    this.#warmth.note(workloads);
  }

  /** Endpoints in the order in which to try them, `atMost` of them, each once: a retry never meets one that failed. */
  order(destination: Destination, dial: Dial): readonly Endpoint[] {
    const { endpoints, service } = destination;
    const { policy, isUsable = null } = dial;
    if (service === null) return endpoints;
    if (endpoints.length < 2) return isUsable === null ? endpoints : endpoints.filter(isUsable);
    const warmup = policy?.warmup;
    // A client that stays with its endpoint has no share to grow.
    if (
      warmup === undefined ||
      balancingOf(service, policy) === 'source-ip' ||
      !this.#warmth.isAnyCool(endpoints, warmup)
    )
      return this.#ordered(destination, dial);
    return this.#warmFirst(destination, dial, warmup);
  }

  #ordered(
    destination: ServiceDestination,
    { dialledPort, client, policy, atMost, isUsable = null, isCopy = false }: Dial,
  ): readonly Endpoint[] {
    const { endpoints, service } = destination;
    const balancing = balancingOf(service, policy);
    switch (balancing) {
      case 'round-robin':
      case 'least-connections': {
        const cursors = this.#cursorsOf(service, isCopy ? `copies of ${subsetOf(destination)}` : subsetOf(destination));
        const turns = { cursors, dialledPort, atMost, isUsable };
        const inTurn = this.#inTurns(endpoints, turns);
        return balancing === 'round-robin' ? inTurn : this.#lighterFirst(inTurn, endpoints, turns);
      }
      case 'source-ip':
        return stickyOrder(isUsable === null ? endpoints : endpoints.filter(isUsable), client, atMost);
      case 'random':
        return drawn(endpoints, { count: atMost, random: this.#random, isUsable });
      default:
        return assertNever(balancing);
    }
  }

  /**
   * An endpoint that is not warm is passed over by chance, so that it gets its share of the turns that it would have; it comes
   * after the others, for retries. Where chance passes over all of them, or over very many, all are as cool and as good.
   */
  #warmFirst(destination: ServiceDestination, dial: Dial, warmup: WarmupPolicy): readonly Endpoint[] {
    const { endpoints } = destination;
    const { atMost, isUsable = null } = dial;
    const passed = new Set<Endpoint>();
    const isTaken = (endpoint: Endpoint): boolean => {
      if (isUsable?.(endpoint) === false || passed.has(endpoint)) return false;
      if (passed.size >= mostPassed) return true;
      const share = this.#warmth.shareOf(endpoint, warmup);
      if (share >= 1 || this.#random() < share) return true;
      passed.add(endpoint);
      return false;
    };
    const taken = this.#ordered(destination, { ...dial, isUsable: isTaken });
    if (taken.length === 0) return this.#ordered(destination, dial);
    if (taken.length >= atMost || passed.size === 0) return taken;
    const isLeft = (endpoint: Endpoint): boolean => isUsable?.(endpoint) !== false && !taken.includes(endpoint);
    return [...taken, ...this.others(endpoints, { atMost: atMost - taken.length, isUsable: isLeft })];
  }

  /** Up to `atMost` usable ones by chance, for a connection that could reach none of those that were ordered. */
  others(endpoints: readonly Endpoint[], { atMost, isUsable }: Wanted): readonly Endpoint[] {
    return drawn(endpoints, { count: atMost, random: this.#random, isUsable });
  }

  /** Which one a new connection goes to, drawn by the weights: its place. */
  choose(choices: readonly WeightedSubset[]): number {
    return drawnChoice(choices, this.#random);
  }

  /**
   * Counts a connection to an endpoint that is chosen by their number; null: it is not. `service` null: the endpoint itself was
   * dialled. The caller owns what is returned.
   */
  begin(
    endpoint: Endpoint,
    { service, policy }: { readonly service: RegistryService | null; readonly policy: TrafficPolicy | null },
  ): EndpointUse | null {
    if (service === null || balancingOf(service, policy) !== 'least-connections') return null;
    return this.#loads.begin(endpoint);
  }

  #cursorsOf(service: RegistryService, subset: string): Map<number, number> {
    let ofService = this.#cursors.get(service);
    if (ofService === undefined) this.#cursors.set(service, (ofService = new Map()));
    let cursors = ofService.get(subset);
    if (cursors === undefined) ofService.set(subset, (cursors = new Map()));
    return cursors;
  }

  #inTurns(endpoints: readonly Endpoint[], { cursors, dialledPort, atMost, isUsable }: Turns): Endpoint[] {
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
   * Of the next one in turn and a random other one the lighter is first (Mitzenmacher, "The Power of Two Choices in Randomized
   * Load Balancing"): the lightest of all would get the connections of every worker and node at once. Where they are equal the
   * turn counts, so endpoints that are equally busy get equally many connections. Changes `inTurn`, and returns it.
   */
  #lighterFirst(inTurn: Endpoint[], endpoints: readonly Endpoint[], turns: Turns): Endpoint[] {
    const at = (turns.cursors.get(turns.dialledPort) ?? 0) - 1;
    const otherAt = this.#otherThan(at, endpoints, turns.isUsable);
    if (inTurn.length === 0 || otherAt === null || !this.#loads.isLighter(endpoints, otherAt, at)) return inTurn;
    const [first, other] = [endpoints[at], endpoints[otherAt]];
    if (first === undefined || other === undefined) return inTurn;
    const place = inTurn.indexOf(other);
    if (place < 0) {
      inTurn.unshift(other);
      if (inTurn.length > turns.atMost) inTurn.pop();
      return inTurn;
    }
    inTurn[0] = other;
    inTurn[place] = first;
    return inTurn;
  }

  /** A random place but `at`; null: few are usable, and the next one in turn is as good. */
  #otherThan(at: number, endpoints: readonly Endpoint[], isUsable: Wanted['isUsable']): number | null {
    const others = endpoints.length - 1;
    for (let draw = 0; draw < draws; draw++) {
      const drawn = Math.floor(this.#random() * others);
      const otherAt = drawn < at ? drawn : drawn + 1;
      const endpoint = endpoints[otherAt];
      if (endpoint !== undefined && isUsable?.(endpoint) !== false) return otherAt;
    }
    return null;
  }
}

function subsetOf({ subset = '' }: { readonly subset?: string }): string {
  return subset;
}
