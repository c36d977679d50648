import { Counter, type Registry } from 'prom-client';
import { connectionCuts, type ConnectionCut } from '../../shared/http/bounded-server.js';
import { endpointNames, type EndpointName } from './agent-endpoints.js';

/** Counts the connections to the agent's endpoints that a limit ended. */
export class EndpointMetrics {
  readonly #cuts: Counter<'endpoint' | 'why'>;

  constructor({ registry }: { readonly registry: Registry }) {
    this.#cuts = new Counter({
      name: 'culvert_endpoint_connections_cut_total',
      help: 'Connections to health, metrics and admin that a limit ended: too many from one source or in all, or a client that was too slow.',
      labelNames: ['endpoint', 'why'],
      registers: [registry],
    });
    for (const endpoint of endpointNames) for (const why of connectionCuts) this.#cuts.inc({ endpoint, why }, 0);
  }

  cut(endpoint: EndpointName, why: ConnectionCut): void {
    this.#cuts.inc({ endpoint, why });
  }
}
