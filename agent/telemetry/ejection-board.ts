import { formatHostPort } from '../../shared/address.js';
import type { Heartbeat } from '../../shared/wire/requests.js';
import type { WorkerReport } from '../dataplane/messages.js';
import type { EjectedEndpoint } from '../dataplane/report/ejections.js';

type Told = NonNullable<Heartbeat['ejected']>[number];

/** As many as a heartbeat has. */
const maxTold = 256;

/** The endpoints that the workers have ejected now, for heartbeats. Each worker ejects for itself. */
export class EjectionBoard {
  readonly #byWorker = new Map<number, readonly EjectedEndpoint[]>();

  report({ ejected, gauges }: Pick<WorkerReport, 'ejected' | 'gauges'>, workerIndex: number): void {
    if (ejected !== undefined) this.#byWorker.set(workerIndex, ejected);
    else if (gauges.ejectedEndpoints === 0) this.#byWorker.delete(workerIndex);
  }

  workerLost(workerIndex: number): void {
    this.#byWorker.delete(workerIndex);
  }

  /** A row for each endpoint of a destination under a rule: the longest penalty of a worker, and how many workers ejected it. */
  told(): Told[] {
    const rows = new Map<string, Told>();
    for (const each of [...this.#byWorker.values()].flat()) {
      const { destination, rule, workload, state, reason, count } = each;
      const address = formatHostPort(each.address);
      const key = `${rule} ${destination} ${address} ${workload ?? ''}`;
      const present = rows.get(key);
      if (present === undefined && rows.size >= maxTold) continue;
      const forMs = Math.ceil(each.forMs);
      const threads = (present?.threads ?? 0) + 1;
      const isLonger = present === undefined || forMs > present.forMs;
      const row = { destination, rule, workload, address, state, reason, count, forMs, threads };
      rows.set(key, isLonger ? row : { ...present, threads });
    }
    return [...rows.values()];
  }
}
