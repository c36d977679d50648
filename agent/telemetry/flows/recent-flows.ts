import { CulvertError, describeError } from '../../../shared/errors.js';
import type { Log } from '../../../shared/log.js';
import {
  encodeRecentFlows,
  maxFlowsAgain,
  recentEveryMs,
  type RecentAnswer,
  type RecentFlowReport,
} from '../../../shared/wire/recent-flows.js';
import { splitFlows } from '../../../shared/wire/flow-batch.js';
import type { FlowAggregator, RecentTake } from './flow-aggregator.js';
import type { FlowTally } from './flow-tally.js';

/** After the server refused it: the credential is of an older version, until it is renewed. */
const deniedPauseMs = 600_000;
/** How long a report that is under way may delay the end: the last stored batch contains it too. */
const lastReportMs = 500;

/**
 * Sends the controller what the next stored batches will contain, every few seconds, so that it knows a connection long
 * before its record is stored: that is done for a busy pair every few minutes only. Each flow that grew is in a report with
 * its whole sum since the last stored batch, so one that is lost costs nothing but time. A report without flows says that
 * nothing happened. A controller that has started again knows none of it and gets everything again.
 */
export class RecentFlows {
  readonly #init: RecentFlowsInit;
  #timer: NodeJS.Timeout | null = null;
  #everyMs: number = recentEveryMs.most;
  /** The process of the controller that answered last; null: none yet. */
  #instance: string | null = null;
  #isStopped = false;
  #lastProblem = '';
  #reporting: Promise<void> = Promise.resolve();
  #giveUp: () => void = () => undefined;

  constructor(init: RecentFlowsInit) {
    this.#init = init;
    this.#schedule(this.#everyMs);
  }

  /** Resolves when no report is under way. Never rejects. */
  async idle(): Promise<void> {
    await this.#reporting.catch(() => undefined);
  }

  /** Ends the reports. One that is under way is given up soon: a controller that hangs must not cost the last window. */
  close(): void {
    this.#isStopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    setTimeout(() => this.#giveUp(), lastReportMs).unref();
  }

  #schedule(afterMs: number): void {
    if (this.#isStopped) return;
    this.#timer = setTimeout(() => void this.#tick(), afterMs);
  }

  async #tick(): Promise<void> {
    let nextMs = this.#everyMs;
    try {
      this.#reporting = this.#report();
      await this.#reporting;
      nextMs = this.#everyMs;
      this.#lastProblem = '';
    } catch (error) {
      if (error instanceof CulvertError && error.code === 'BUS_DENIED') nextMs = deniedPauseMs;
      const problem = describeError(error);
      const { log } = this.#init;
      if (problem !== this.#lastProblem) log.debug({ problem }, 'the controller did not take recent flows; retrying');
      this.#lastProblem = problem;
    }
    this.#schedule(nextMs);
  }

  async #report(): Promise<void> {
    const { aggregator, tally, run, sequence, nowMs, send } = this.#init;
    const taken = aggregator.takeRecent();
    const after = sequence();
    const givenUp = new Promise<never>((_resolve, reject) => {
      this.#giveUp = () => reject(new Error('the agent ended before the controller answered'));
    });
    try {
      for (const part of partsOf(taken)) {
        const report = encodeRecentFlows({ run, after, sentAtMs: nowMs(), ...part });
        const answer = await Promise.race([send(report), givenUp]);
        this.#everyMs = answer.everyMs;
        if (this.#isForgotten(answer)) {
          taken.putBack();
          aggregator.forgetReports();
          this.#everyMs = recentEveryMs.least;
          return;
        }
      }
    } catch (error) {
      taken.putBack();
      throw error;
    } finally {
      this.#giveUp = () => undefined;
    }
    // An earlier version gives no instance, and knows no numbers.
    if (this.#instance !== null) taken.named();
    aggregator.confirm(taken.unreported);
    tally.setCounted(aggregator);
  }

  /** Whether the controller lacks what was reported before. */
  #isForgotten({ instance, isUnknown }: RecentAnswer): boolean {
    const before = this.#instance;
    this.#instance = instance ?? null;
    return isUnknown === true || (before !== null && before !== this.#instance);
  }
}

type Part = Pick<RecentFlowReport, 'flows' | 'ids' | 'again'>;

/** One at least: it says up to when this node is known. */
function partsOf({ flows, ids, again }: RecentTake): Part[] {
  const parts: Part[] = [];
  let from = 0;
  for (const part of splitFlows(flows)) {
    parts.push({ flows: part, ids: ids.slice(from, from + part.length) });
    from += part.length;
  }
  for (let at = 0; at < again.length; at += maxFlowsAgain) {
    parts.push({ flows: [], again: again.slice(at, at + maxFlowsAgain) });
  }
  return parts.length === 0 ? [{ flows: [], ids: [] }] : parts;
}

export type RecentFlowsInit = {
  readonly aggregator: FlowAggregator;
  readonly tally: FlowTally;
  /** Of this process, as in the stored batches. */
  readonly run: string;
  /** Of the newest stored batch. */
  readonly sequence: () => number;
  readonly send: (bytes: Uint8Array) => Promise<RecentAnswer>;
  readonly nowMs: () => number;
  readonly log: Log;
};
