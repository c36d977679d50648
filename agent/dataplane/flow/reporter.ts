import type { ClosedConnection } from '../report/closed-connection.js';
import type { ConnectionRecord, Ending } from '../connection/connection-record.js';
import { EventLoopDelay } from '../../thread/event-loop-delay.js';
import { sumOpenConnections, type OpenConnections } from '../report/open-connections.js';
import type { WorkerGauges, WorkerReport } from '../messages.js';
import type { LiveBytes } from '../report/live-bytes.js';

/** Longest time that a closed connection waits for its report. */
const batchMs = 100;
/** More closed connections than this go out at once. */
const batchSize = 1000;
const sweepMs = 1000;
/** How often an open connection is told to the flow records. */
const openEveryMs = 60_000;

export type ReporterSource = {
  /** Records of the connections that are open now. */
  readonly openRecords: () => Iterable<ConnectionRecord>;
  readonly gauges: () => Omit<WorkerGauges, 'eventLoopDelayP99Ms'>;
};

/**
 * Tells the control thread what happened: closed connections in batches, bytes and gauges every second. Bytes are told
 * in `live` only once: when a connection closes, what had not been told yet is in the same report as its record.
 */
export class Reporter {
  readonly #post: (report: WorkerReport) => void;
  readonly #source: ReporterSource;
  readonly #openEveryMs: number;
  readonly #delay = new EventLoopDelay();
  #delayP99Ms = 0;
  readonly #sweep: NodeJS.Timeout;
  #batch: NodeJS.Timeout | null = null;
  #closed: ClosedConnection[] = [];
  #lastBytes = new Map<string, LiveBytes>();

  /** `openEveryMs`: how often an open connection is told to the flow records; a minute when absent. */
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
      for (const record of this.#source.openRecords()) {
        addBytes(bytes, record);
        const told = record.takeOpen(this.#openEveryMs);
        if (told !== null) open.push(told);
      }
    }
    // A batch says again what the last sweep said: in its 100 ms there are too few looks at the loop.
    if (withOpen) this.#delayP99Ms = this.#delay.takeP99Ms();
    const gauges = { ...this.#source.gauges(), eventLoopDelayP99Ms: this.#delayP99Ms };
    const flows = open.length === 0 ? {} : { open: sumOpenConnections(open) };
    this.#post({ type: 'report', closed, live: [...bytes.values()], ...flows, gauges });
  }

  /** Sends what is left and stops. */
  stop(): void {
    this.flush();
    clearInterval(this.#sweep);
    this.#delay.stop();
  }
}

/** Added up by the labels, so that a report is as long as there are pairs of workloads, not connections. */
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
