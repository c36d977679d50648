import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { CulvertError, describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { encodeFlowBatch, splitFlows } from '../../../shared/wire/flow-batch.js';
import type { FlowBatch } from '../../../shared/wire/flows.js';
import type { WorkerReport } from '../../dataplane/messages.js';
import type { FlowAggregator } from './flow-aggregator.js';
import type { FlowMetrics } from './flow-metrics.js';

const windowMs = 10_000;
/** How long a stop waits for the last window to be stored. */
const lastFlushMs = 2000;

type WaitingBatch = Omit<FlowBatch, 'run' | 'sentAtMs'>;

/**
 * Publishes the workers' reports window by window. Runs on the control thread and never delays traffic. While NATS is
 * down one window waits unchanged and everything after it is aggregated: memory is bounded, and what is lost is time
 * resolution, not counts. Owns its timer; `close` publishes the rest and ends it.
 */
export class FlowPublisher {
  readonly #aggregator: FlowAggregator;
  readonly #store: (bytes: Uint8Array) => Promise<void>;
  readonly #metrics: FlowMetrics;
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #run = randomBytes(8).toString('hex');
  readonly #timer: NodeJS.Timeout;
  #waiting: WaitingBatch[] = [];
  #sequence = 0;
  #flushing: Promise<void> | null = null;
  #lastProblem = '';

  /** `store` rejects if a batch was not, or perhaps not, stored. The same batch is then retried. */
  constructor(init: {
    readonly aggregator: FlowAggregator;
    readonly store: (bytes: Uint8Array) => Promise<void>;
    readonly metrics: FlowMetrics;
    readonly log: Log;
    readonly nowMs: () => number;
    readonly windowMs?: number;
  }) {
    this.#aggregator = init.aggregator;
    this.#store = init.store;
    this.#metrics = init.metrics;
    this.#log = init.log;
    this.#nowMs = init.nowMs;
    this.#timer = setInterval(() => void this.flush(), init.windowMs ?? windowMs);
  }

  report(report: WorkerReport): void {
    for (const connection of report.closed) this.#aggregator.addClosed(connection);
    for (const open of report.open ?? []) this.#aggregator.addOpen(open);
  }

  /** Ends a window and sends it, unless an earlier one still waits; that one goes first. Never rejects. */
  flush({ isLast = false }: { readonly isLast?: boolean } = {}): Promise<void> {
    this.#flushing ??= this.#send(isLast).finally(() => (this.#flushing = null));
    return this.#flushing;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    const abort = new AbortController();
    const tellAll = async (): Promise<void> => {
      await this.#flushing;
      await this.flush({ isLast: true });
      abort.abort();
    };
    await Promise.race([tellAll(), delay(lastFlushMs, undefined, { signal: abort.signal }).catch(() => undefined)]);
  }

  async #send(isLast: boolean): Promise<void> {
    if (!(await this.#sendWaiting())) return;
    const { flows, notKept } = this.#aggregator.take({ isLast });
    if (notKept > 0) this.#metrics.notKept('summed', notKept);
    this.#waiting = splitFlows(flows).map((part, index) => ({
      sequence: ++this.#sequence,
      notKept: index === 0 ? notKept : 0,
      flows: part,
    }));
    await this.#sendWaiting();
  }

  /** In order, because the reader recognises repeated records by their sequence. Returns false if some still wait. */
  async #sendWaiting(): Promise<boolean> {
    for (let batch = this.#waiting[0]; batch !== undefined; batch = this.#waiting[0]) {
      try {
        await this.#store(encodeFlowBatch({ run: this.#run, sentAtMs: this.#nowMs(), ...batch }));
        this.#metrics.told(batch.flows.length);
        this.#lastProblem = '';
      } catch (error) {
        this.#metrics.storeFailed();
        this.#report(error);
        if (!isHopeless(error)) return false;
        this.#metrics.notKept(
          'lost',
          batch.flows.reduce((sum, flow) => sum + flow.connections, 0),
        );
      }
      this.#waiting.shift();
    }
    return true;
  }

  /** The link logs an outage itself, once; here it only delays. */
  #report(error: unknown): void {
    const problem = describeError(error);
    const isNews = problem !== this.#lastProblem;
    this.#lastProblem = problem;
    const isOutage = error instanceof CulvertError && error.code === 'BUS_DISCONNECTED';
    this.#log[isNews && !isOutage ? 'warn' : 'debug'](
      { problem },
      'flow records could not be stored; traffic is not affected',
    );
  }
}

/** Retrying the same bytes cannot help. */
function isHopeless(error: unknown): boolean {
  return error instanceof CulvertError && error.code === 'BUS_PAYLOAD_TOO_LARGE';
}
