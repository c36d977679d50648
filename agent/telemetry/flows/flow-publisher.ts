import { setTimeout as delay } from 'node:timers/promises';
import { CulvertError, describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import { encodeFlowBatch, splitFlows } from '../../../shared/wire/flow-batch.js';
import type { FlowBatch, LostRun } from '../../../shared/wire/flows.js';
import type { RecentAnswer } from '../../../shared/wire/recent-flows.js';
import type { WorkerReport } from '../../dataplane/messages.js';
import type { FlowAggregator } from './flow-aggregator.js';
import type { FlowMetrics } from './flow-metrics.js';
import type { FlowTally } from './flow-tally.js';
import { RecentFlows } from './recent-flows.js';

/** How long a stop waits for the last window to be stored. */
const lastFlushMs = 2000;

type WaitingBatch = Omit<FlowBatch, 'run' | 'sentAtMs'> & {
  /** Connections that are in no report, and that the controller knows once it is stored. */
  readonly unreported: number;
};

/**
 * Publishes the workers' reports window by window. Runs on the control thread and never delays traffic. While NATS is
 * down one window waits unchanged and everything after it is aggregated: memory is bounded, and what is lost is time
 * resolution, not counts. Owns its timer; `close` publishes the rest and ends it.
 */
export class FlowPublisher {
  readonly #aggregator: FlowAggregator;
  readonly #store: (bytes: Uint8Array) => Promise<void>;
  readonly #metrics: FlowMetrics;
  readonly #tally: FlowTally;
  readonly #recent: RecentFlows;
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #run: string;
  readonly #timer: NodeJS.Timeout;
  /** Not in a batch yet. */
  #lost: number;
  #lostRuns: readonly LostRun[];
  #waiting: WaitingBatch[] = [];
  #sequence = 0;
  #flushing: Promise<void> | null = null;
  #lastProblem = '';

  /**
   * `store` rejects if a batch was not, or perhaps not, stored. The same batch is then retried. `sendRecent` gives the
   * controller what is not stored yet. The publisher closes the tally.
   */
  constructor(init: {
    readonly aggregator: FlowAggregator;
    readonly store: (bytes: Uint8Array) => Promise<void>;
    readonly sendRecent: (bytes: Uint8Array) => Promise<RecentAnswer>;
    readonly tally: FlowTally;
    readonly metrics: FlowMetrics;
    readonly log: Log;
    readonly nowMs: () => number;
    readonly windowMs: number;
  }) {
    this.#aggregator = init.aggregator;
    this.#store = init.store;
    this.#metrics = init.metrics;
    this.#log = init.log;
    this.#nowMs = init.nowMs;
    this.#tally = init.tally;
    this.#run = init.tally.run;
    this.#lost = init.tally.lostBefore;
    this.#lostRuns = init.tally.lostRuns;
    if (this.#lost > 0) {
      this.#metrics.notKept('lost', this.#lost);
      this.#log.warn({ connections: this.#lost }, 'the last agent on this node ended without reporting connections');
    }
    this.#recent = new RecentFlows({
      aggregator: init.aggregator,
      tally: init.tally,
      run: this.#run,
      sequence: () => this.#sequence,
      send: init.sendRecent,
      nowMs: init.nowMs,
      log: init.log,
    });
    this.#timer = setInterval(() => void this.flush(), init.windowMs);
  }

  report(report: WorkerReport, worker: number): void {
    for (const connection of report.closed) this.#aggregator.addClosed(connection);
    for (const open of report.open ?? []) this.#aggregator.addOpen(open);
    if (report.openUnreported !== undefined) this.#tally.setOpen(worker, report.openUnreported);
    this.#tally.setCounted(this.#aggregator);
  }

  /** Ends a window and sends it, unless an earlier one still waits; that one goes first. Never rejects. */
  flush({ isLast = false }: { readonly isLast?: boolean } = {}): Promise<void> {
    this.#flushing ??= this.#send(isLast).finally(() => (this.#flushing = null));
    return this.#flushing;
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#recent.close();
    const abort = new AbortController();
    const tellAll = async (): Promise<void> => {
      await this.#flushing;
      await this.flush({ isLast: true });
      abort.abort();
    };
    await Promise.race([tellAll(), delay(lastFlushMs, undefined, { signal: abort.signal }).catch(() => undefined)]);
    this.#tally.close();
  }

  async #send(isLast: boolean): Promise<void> {
    if (!(await this.#sendWaiting())) return;
    // A report that is under way must not arrive after the batch that contains what it says.
    await this.#recent.idle();
    const { flows, notKept } = this.#aggregator.take({ isLast });
    if (notKept > 0) this.#metrics.notKept('summed', notKept);
    const unreported = this.#aggregator.takeUnreported();
    const parts = splitFlows(flows);
    const lost = this.#lost > 0 ? { lost: this.#lost } : {};
    const lostRuns = this.#lostRuns.length > 0 ? { lostRuns: this.#lostRuns } : {};
    const losses = { ...lost, ...lostRuns };
    this.#lost = 0;
    this.#lostRuns = [];
    // What was lost is worth a batch without flows.
    this.#waiting = (parts.length === 0 && Object.keys(losses).length > 0 ? [[]] : parts).map(
      (part, index, { length }) => ({
        sequence: ++this.#sequence,
        notKept: index === 0 ? notKept : 0,
        ...(index === 0 ? losses : {}),
        flows: part,
        unreported: index === length - 1 ? unreported : 0,
      }),
    );
    // What is in none of these was in an earlier batch, which is stored by now.
    if (this.#waiting.length === 0) this.#confirm(unreported);
    await this.#sendWaiting();
  }

  /** In order, because the reader recognises repeated records by their sequence. Returns false if some still wait. */
  async #sendWaiting(): Promise<boolean> {
    for (let batch = this.#waiting[0]; batch !== undefined; batch = this.#waiting[0]) {
      try {
        const { unreported: _unreported, ...content } = batch;
        await this.#store(encodeFlowBatch({ run: this.#run, sentAtMs: this.#nowMs(), ...content }));
        this.#settle(batch);
        if (batch.lost !== undefined || batch.lostRuns !== undefined) this.#tally.settle();
        this.#metrics.told(batch.flows.length);
        this.#lastProblem = '';
      } catch (error) {
        this.#metrics.storeFailed();
        this.#report(error);
        if (!isHopeless(error)) return false;
        const lost = connectionsIn(batch) + (batch.lost ?? 0);
        this.#metrics.notKept('lost', lost);
        this.#lost += lost;
        this.#lostRuns = [...this.#lostRuns, ...(batch.lostRuns ?? [])];
        this.#settle(batch);
      }
      this.#waiting.shift();
    }
    return true;
  }

  #settle(batch: WaitingBatch): void {
    this.#aggregator.settle(connectionsIn(batch));
    this.#confirm(batch.unreported);
  }

  #confirm(unreported: number): void {
    this.#aggregator.confirm(unreported);
    this.#tally.setCounted(this.#aggregator);
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

function connectionsIn({ flows }: WaitingBatch): number {
  return flows.reduce((sum, { connections }) => sum + connections, 0);
}

/** Retrying the same bytes cannot help. */
function isHopeless(error: unknown): boolean {
  return error instanceof CulvertError && error.code === 'BUS_PAYLOAD_TOO_LARGE';
}
