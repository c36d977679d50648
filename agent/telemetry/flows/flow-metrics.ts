import { Counter, type Registry } from 'prom-client';

/** What became of the flow records of this node. */
export class FlowMetrics {
  readonly #told: Counter;
  readonly #notKept: Counter<'cause'>;
  readonly #failures: Counter;

  constructor({ registry }: { readonly registry: Registry }) {
    const registers = [registry];
    this.#told = new Counter({
      name: 'culvert_flow_records_total',
      help: 'Flow records that the store has taken.',
      registers,
    });
    this.#notKept = new Counter({
      name: 'culvert_flow_connections_not_kept_total',
      help: 'Connections that flow records do not tell apart (summed: too many different ones) or not at all (lost: the store refused them).',
      labelNames: ['cause'],
      registers,
    });
    this.#failures = new Counter({
      name: 'culvert_flow_store_failures_total',
      help: 'Attempts to store flow records that failed; they are tried again.',
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
