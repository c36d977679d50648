import type { Resource } from '../resources/kinds/resource.js';
import { externalCidrs } from './compile-externals.js';
import type { PeerMatch } from '../../shared/policy/snapshot.js';
import { serviceName } from '../../shared/routing/names.js';

/** Matches no party: no name is in an empty list. */
const noPeer: PeerMatch = { workloads: [] };

/**
 * The matches for the peer `service: namespace/name`: the endpoints of a Service, or the addresses of a ServiceEntry.
 * An unknown name matches nothing: a rule may be written before its service, and the next revision finds it.
 */
export class ServicePeers {
  readonly #matches = new Map<string, PeerMatch[]>();

  constructor({ resources }: { resources: readonly Resource[] }) {
    for (const resource of resources) {
      if (resource.kind === 'Service') {
        const { namespace } = resource.metadata;
        const { selector } = resource.spec;
        // A service without a selector has no endpoints, but a match without labels would select the whole namespace.
        const hasSelector = Object.keys(selector).length > 0;
        this.#add(serviceName(resource.metadata), hasSelector ? { namespaces: [namespace], labels: selector } : noPeer);
      }
      if (resource.kind === 'ServiceEntry') {
        this.#add(serviceName(resource.metadata), { cidrs: externalCidrs(resource.spec) });
      }
    }
  }

  matchesOf(service: string): PeerMatch[] {
    return (this.#matches.get(service) ?? [noPeer]).map((match) => ({ ...match, service }));
  }

  #add(service: string, match: PeerMatch): void {
    const known = this.#matches.get(service);
    if (known === undefined) this.#matches.set(service, [match]);
    else known.push(match);
  }
}
