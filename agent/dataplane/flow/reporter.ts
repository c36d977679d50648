import type { ClosedConnection } from '../report/closed-connection.js';
import type { EndpointHealth } from '../balance/endpoint-health.js';
import type { ConnectionRecord } from '../connection/connection-record.js';
import type { Ending } from '../connection/ending.js';
import { EventLoopDelay } from '../../thread/event-loop-delay.js';
import { sumOpenConnections, type LiveBytes, type OpenConnections } from '../report/open-connections.js';
import type { WorkerGauges, WorkerReport } from '../messages.js';

/** How long a closed connection waits for its report at most. */
const batchMs = 100;
/** This many closed connections are reported at once. */
const batchSize = 1000;
const sweepMs = 1000;
/** An open connection is reported for flow records at this age, and then once a minute. */
const openAfterMs = 3000;
const openEveryMs = 60_000;

export type ReporterSource = {
  /** Records of open connections. */
  readonly openRecords: () => Iterable<ConnectionRecord>;
  readonly gauges: () => Omit<WorkerGauges, 'eventLoopDelayP99Ms' | 'ejectedEndpoints'>;
  readonly health: Pick<EndpointHealth, 'take'>;
};

/**
 * Reports to the control thread: closed connections in batches, bytes and gauges every second. Each byte is in `live` once:
 * when a connection closes, its bytes that were not reported yet are in the same report as its record.
 */
export class Reporter {
  readonly #post: (report: WorkerReport) => void;
  readonly #source: ReporterSource;
  readonly #openEveryMs: number;
  readonly #delay = new EventLoopDelay();
  #delayP99Ms = 0;
  #ejectedEndpoints = 0;
  readonly #sweep: NodeJS.Timeout;
  #batch: NodeJS.Timeout | null = null;
  #closed: ClosedConnection[] = [];
  #lastBytes = new Map<string, LiveBytes>();
  /** Of the last sweep, without those that have closed since: they are in a report as closed. */
  #openUnreported = 0;

  /** `openEveryMs`: how often an open connection is reported for flow records; a minute when absent. */
  constructor(init: {
    readonly post: (report: WorkerReport) => void;
    readonly source: ReporterSource;
    readonly openEveryMs?: number;
  }) {
    this.#post = init.post;
    this.#openEveryMs = init.openEveryMs ?? openEveryMs;
    this.#source = init.source;
    this.#sweep = setInterval(() => this.#report({ withOpen: true }), sweepMs);
  }

  closed(record: ConnectionRecord, ending: Ending): void {
    addBytes(this.#lastBytes, record);
    this.#closed.push(record.close(ending));
    if (record.isCountedOpen) this.#openUnreported -= 1;
    if (this.#closed.length >= batchSize) this.flush();
    else this.#batch ??= setTimeout(() => this.flush(), batchMs);
  }

  flush(): void {
    this.#report({ withOpen: false });
  }

  #report({ withOpen }: { readonly withOpen: boolean }): void {
    if (this.#batch !== null) clearTimeout(this.#batch);
    this.#batch = null;
    const closed = this.#closed;
    const bytes = this.#lastBytes;
    this.#closed = [];
    this.#lastBytes = new Map();
    const open: OpenConnections[] = [];
    if (withOpen) {
      this.#openUnreported = 0;
      for (const record of this.#source.openRecords()) {
        addBytes(bytes, record);
        const news = record.takeOpen(this.#openEveryMs, Math.min(openAfterMs, this.#openEveryMs));
        if (news !== null) open.push(news);
        record.isCountedOpen = !record.isReportedOpen;
        if (record.isCountedOpen) this.#openUnreported += 1;
      }
    }
    // A batch repeats the last sweep's value: 100 ms have too few samples of the loop.
    if (withOpen) this.#delayP99Ms = this.#delay.takeP99Ms();
    const health = withOpen ? this.#source.health.take() : null;
    if (health !== null) this.#ejectedEndpoints = health.ejected.length;
    const gauges = {
      ...this.#source.gauges(),
      eventLoopDelayP99Ms: this.#delayP99Ms,
      ejectedEndpoints: this.#ejectedEndpoints,
    };
    const flows = open.length === 0 ? {} : { open: sumOpenConnections(open) };
    const openUnreported = this.#openUnreported;
    const ofHealth = health === null ? {} : presentOf(health);
    this.#post({ type: 'report', closed, live: [...bytes.values()], ...flows, openUnreported, ...ofHealth, gauges });
  }

  /** Sends what is left, then stops. */
  stop(): void {
    this.flush();
    clearInterval(this.#sweep);
    this.#delay.stop();
  }
}

/** Most sweeps have nothing to tell. */
function presentOf({ ejections, ejected }: ReturnType<EndpointHealth['take']>): Partial<WorkerReport> {
  return { ...(ejections.length === 0 ? {} : { ejections }), ...(ejected.length === 0 ? {} : { ejected }) };
}

/** Adds up by labels: the length of a report follows the pairs of workloads and not the connections. */
function addBytes(sums: Map<string, LiveBytes>, record: ConnectionRecord): void {
  const bytes = record.takeLive();
  if (bytes === null) return;
  const key = `${bytes.direction} ${bytes.sourceWorkload} ${bytes.destinationWorkload}`;
  const sum = sums.get(key);
  sums.set(
    key,
    sum === undefined ? bytes : { ...sum, sent: sum.sent + bytes.sent, received: sum.received + bytes.received },
  );
}
