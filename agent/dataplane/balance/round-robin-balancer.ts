import type { Destination, Endpoint } from '../../../shared/routing/destination.js';

/**
 * Chooses among the endpoints of a service: round robin for each service and port, from a random start so that the
 * workers of all nodes do not begin at the same endpoint. Endpoints of this node weigh the same as others. Round robin
 * and not fewest connections: an endpoint that refuses at once would have the fewest, and attract everything.
 */
export class RoundRobinBalancer {
  readonly #cursors = new Map<string, number>();
  readonly #random: () => number;

  constructor(init: { readonly random: () => number }) {
    this.#random = init.random;
  }

  /** All endpoints in the order in which to try them; each at most once, so a retry never meets one that failed. */
  order(destination: Destination, dialledPort: number): readonly Endpoint[] {
    const { endpoints, service } = destination;
    if (endpoints.length < 2 || service === null) return endpoints;
    const key = `${service.namespace}/${service.name}:${dialledPort}`;
    const start = (this.#cursors.get(key) ?? Math.floor(this.#random() * endpoints.length)) % endpoints.length;
    this.#cursors.set(key, start + 1);
    return [...endpoints.slice(start), ...endpoints.slice(0, start)];
  }

  /** Drops the positions of services that are gone or changed; they start at random again. */
  reset(): void {
    this.#cursors.clear();
  }
}
