import type { IpAddress } from '../../../shared/address.js';
import type { Destination, Endpoint } from '../../../shared/routing/destination.js';
import { serviceName } from '../../../shared/routing/names.js';
import { stickyOrder } from './sticky-order.js';

/**
 * Orders the endpoints of a service: round robin for each service and port, with a random start so that the workers of all
 * nodes do not begin at the same endpoint, and by the client's address where the service is sticky. Not by fewest connections,
 * because an endpoint that refuses at once has the fewest and would attract all of them.
 */
export class EndpointBalancer {
  readonly #cursors = new Map<string, number>();
  readonly #random: () => number;

  constructor(init: { readonly random: () => number }) {
    this.#random = init.random;
  }

  /** All endpoints in the order in which to try them. Each is there once, so a retry never meets one that failed. */
  order(
    { endpoints, service }: Destination,
    { dialledPort, client }: { readonly dialledPort: number; readonly client: IpAddress },
  ): readonly Endpoint[] {
    if (endpoints.length < 2 || service === null) return endpoints;
    if (service.isSticky === true) return stickyOrder(endpoints, client);
    const key = `${serviceName(service)}:${dialledPort}`;
    const start = (this.#cursors.get(key) ?? Math.floor(this.#random() * endpoints.length)) % endpoints.length;
    this.#cursors.set(key, start + 1);
    return [...endpoints.slice(start), ...endpoints.slice(0, start)];
  }

  /** Drops all positions; services start at a random endpoint again. */
  reset(): void {
    this.#cursors.clear();
  }
}
