import { isIpv6 } from '../../../shared/address.js';
import type { DestinationSubset } from '../../../shared/policy/traffic-documents.js';
import { resolveService, type Endpoint, type ResolveEndpoints } from '../../../shared/routing/destination.js';
import type { Locality, RegistryService, WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { RegistryIndex } from './registry-index.js';

/** Places of clients and ports that are known of one subset of a service. They are asked for again when there are more. */
const maxLists = 256;

type List = {
  /** The same object for as long as no workload of the namespace changes. */
  readonly workloads: readonly WorkloadEntry[];
  readonly changes: number;
  readonly endpoints: readonly Endpoint[];
};
type Lists = Map<string, Map<number, List>>;

const allLabels: DestinationSubset['labels'] = {};
const anywhere = '';

/**
 * The endpoints of services, as {@link resolveService} finds them, kept until something changes: a service may have
 * thousands, and a connection needs a few. A list is the same object for as long as it is equal. Nothing is looked up by a text
 * that is made for it, which would take longer than the rest.
 */
export class EndpointLists {
  readonly #registry: RegistryIndex;
  /** By the labels of the subset. */
  readonly #byService = new WeakMap<RegistryService, WeakMap<DestinationSubset['labels'], Lists>>();
  readonly #places = new WeakMap<Locality, string>();

  /** Owns nothing of `registry`. */
  constructor({ registry }: { readonly registry: RegistryIndex }) {
    this.#registry = registry;
  }

  readonly resolve: ResolveEndpoints = (service, dialled, from, subset = null) => {
    // Of what is dialled only this decides, and the place of a client only where the service distributes by it.
    const place = service.distribution === undefined || from === null ? anywhere : this.#placeOf(from);
    const port = 2 * dialled.port + (isIpv6(dialled.ip) ? 1 : 0);
    const lists = this.#listsOf(service, subset?.labels ?? allLabels);
    const workloads = this.#registry.endpointsOf(service);
    const { changes } = this.#registry;
    const known = lists.get(place)?.get(port);
    // Addresses that were named by hand may be those of any workload.
    if (known?.workloads === workloads && (service.endpoints === undefined || known.changes === changes)) {
      return known.endpoints;
    }
    const endpoints = resolveService(this.#registry, service, dialled, from, subset);
    if (lists.size >= maxLists) lists.clear();
    const ofPlace = lists.get(place) ?? new Map<number, List>();
    if (ofPlace.size >= maxLists) ofPlace.clear();
    ofPlace.set(port, { workloads, changes, endpoints });
    lists.set(place, ofPlace);
    return endpoints;
  };

  #listsOf(service: RegistryService, labels: DestinationSubset['labels']): Lists {
    let ofService = this.#byService.get(service);
    if (ofService === undefined) this.#byService.set(service, (ofService = new WeakMap()));
    let lists = ofService.get(labels);
    if (lists === undefined) ofService.set(labels, (lists = new Map()));
    return lists;
  }

  #placeOf(from: Locality): string {
    const known = this.#places.get(from);
    if (known !== undefined) return known;
    const place = `${from.host}/${from.zone ?? ''}`;
    this.#places.set(from, place);
    return place;
  }
}
