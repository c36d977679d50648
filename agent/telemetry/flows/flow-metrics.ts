import { Counter, type Registry } from 'prom-client';

/** What happened to this node's flow records. */
export class FlowMetrics {
  readonly #told: Counter;
  readonly #notKept: Counter<'cause'>;
  readonly #failures: Counter;

  constructor({ registry }: { readonly registry: Registry }) {
    const registers = [registry];
    this.#told = new Counter({
      name: 'culvert_flow_records_total',
      help: 'Flow records that were stored.',
      registers,
    });
    this.#notKept = new Counter({
      name: 'culvert_flow_connections_not_kept_total',
      help: 'Connections that flow records contain only in sums (summed: too many different ones) or not at all (lost: the store refused them, or an agent on this node was killed before it reported them).',
      labelNames: ['cause'],
      registers,
    });
    this.#failures = new Counter({
      name: 'culvert_flow_store_failures_total',
      help: 'Failed attempts to store flow records; they are retried.',
      registers,
    });
    for (const cause of ['summed', 'lost']) this.#notKept.inc({ cause }, 0);
  }

  told(records: number): void {
    this.#told.inc(records);
  }

  notKept(cause: 'summed' | 'lost', connections: number): void {
    this.#notKept.inc({ cause }, connections);
  }

  storeFailed(): void {
    this.#failures.inc();
  }
}
