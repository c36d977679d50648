import type { FlowBatch, ReportedFlow } from '../../shared/wire/flows.js';
import { flowKey } from '../../shared/wire/flows.js';
import type { RecentFlowReport } from '../../shared/wire/recent-flows.js';

/** As many flows as an agent keeps, and some more. */
const maxFlowsOfNode = 12_000;

type RecentFlow = { readonly flow: ReportedFlow; readonly after: number };

/**
 * What a node counted and has not stored yet, by run and flow. A stored batch takes the place of the flows that it contains.
 * A run that ended before it stored them (its agent was killed) leaves them here: the owner stores them in its name.
 */
export class RecentFlows {
  readonly #runs = new Map<string, Map<string, RecentFlow>>();
  #newestRun = '';
  /** By the controller's clock: what ended before it is in the records. */
  asOfMs: number | null = null;

  get isEmpty(): boolean {
    return this.#runs.size === 0;
  }

  get size(): number {
    let size = 0;
    for (const flows of this.#runs.values()) size += flows.size;
    return size;
  }

  /** Adds a report. Returns how many connections did not fit. */
  add(report: RecentFlowReport, receivedAtMs: number): number {
    const { run, after } = report;
    this.#newestRun = run;
    this.asOfMs = receivedAtMs;
    let dropped = 0;
    for (const flow of report.flows) {
      const flows = this.#runs.get(run) ?? new Map<string, RecentFlow>();
      const key = flowKey(flow);
      if (!flows.has(key) && this.size >= maxFlowsOfNode) {
        dropped += flow.connections;
        continue;
      }
      flows.set(key, { flow, after });
      this.#runs.set(run, flows);
    }
    return dropped;
  }

  /** A batch is stored: it contains what was reported before it was made. */
  replace({ run, sequence, flows: stored }: FlowBatch, storedAtMs: number): void {
    this.asOfMs = Math.max(this.asOfMs ?? 0, storedAtMs);
    const flows = this.#runs.get(run);
    if (flows === undefined) return;
    for (const flow of stored) {
      const key = flowKey(flow);
      if ((flows.get(key)?.after ?? sequence) < sequence) flows.delete(key);
    }
    if (flows.size === 0) this.#runs.delete(run);
  }

  *flows(): Generator<ReportedFlow> {
    for (const flows of this.#runs.values()) for (const { flow } of flows.values()) yield flow;
  }

  /** What ended runs did not store. It stays here until a batch of that run replaces it. */
  leftBehind(): { readonly run: string; readonly after: number; readonly flows: readonly ReportedFlow[] }[] {
    return [...this.#runs]
      .filter(([run]) => run !== this.#newestRun)
      .map(([run, flows]) => ({
        run,
        after: Math.max(...[...flows.values()].map(({ after }) => after)),
        flows: [...flows.values()].map(({ flow }) => flow),
      }));
  }
}
