import { flowKey, type FlowBatch, type ReportedFlow } from '../../shared/wire/flows.js';
import type { FlowAgain } from '../../shared/wire/recent-flows.js';

/** As many flows as an agent keeps, and some more. */
const maxFlowsOfNode = 12_000;
/** A run that is silent for this long may never store what it reported. */
const silentAfterMs = 5 * 60_000;

type RecentFlow = {
  readonly flow: ReportedFlow;
  readonly after: number;
  /** Whether the stream has it, in a batch of what was left behind. */
  isStored: boolean;
  /** From an earlier process, and in no report since. */
  readonly isRestored?: true;
};

/** The flows of one agent process. */
type Run = {
  readonly flows: Map<string, RecentFlow>;
  /** By the number that the agent gave it. */
  readonly named: Map<number, { readonly key: string; readonly flow: ReportedFlow }>;
  /** Connections of flows for which there was no room, by flow: a later report has the same ones. */
  readonly dropped: Map<string, number>;
  heardAtMs: number;
};

/** Flows that the stream does not have, which one batch may contain. */
export type LeftFlows = {
  readonly run: string;
  readonly after: number;
  readonly flows: readonly ReportedFlow[];
  /** The stream has these of them now. */
  readonly stored: (flows: readonly ReportedFlow[]) => void;
};

/**
 * What a node counted and has not stored yet, by run and flow. A stored batch takes the place of the flows that it contains.
 * A run that ended before it stored them (its agent was killed, its host died, or this process ends) leaves them here: the
 * owner stores them.
 */
export class RecentFlows {
  readonly #runs = new Map<string, Run>();
  #newestRun = '';
  /** By the controller's clock: what ended before it is in the records. */
  asOfMs: number | null = null;

  get isEmpty(): boolean {
    return this.#runs.size === 0;
  }

  /** Flows and names held. */
  get size(): number {
    let size = 0;
    for (const { flows, named, dropped } of this.#runs.values()) size += flows.size + named.size + dropped.size;
    return size;
  }

  heard(run: string, atMs: number): void {
    this.#newestRun = run;
    this.asOfMs = Math.max(this.asOfMs ?? 0, atMs);
    this.#run(run, atMs).heardAtMs = atMs;
  }

  /** Adds a flow of a report, and its number if it has one. */
  add(run: string, after: number, flow: ReportedFlow, id?: number): void {
    const entry = this.#run(run);
    const { named } = entry;
    const key = flowKey(flow);
    if (id !== undefined) {
      named.delete(id);
      const [oldest] = named.keys();
      if (named.size >= maxFlowsOfNode && oldest !== undefined) named.delete(oldest);
      named.set(id, { key, flow });
    }
    this.#put(entry, key, { flow, after, isStored: false });
  }

  /** The flow that a report names by its number, with the sums of this report. Undefined when the number is not known. */
  find(
    run: string,
    [id, revision, connections, bytesSent, bytesReceived, firstSeenMs, lastSeenMs]: FlowAgain,
  ): { readonly key: string; readonly flow: ReportedFlow } | undefined {
    const found = this.#runs.get(run)?.named.get(id);
    if (found === undefined) return undefined;
    const numbers = { revision, connections, bytesSent, bytesReceived, firstSeenMs, lastSeenMs };
    return { key: found.key, flow: { ...found.flow, ...numbers } };
  }

  /** Adds a flow that {@link find} found. */
  addAgain(run: string, after: number, { key, flow }: { readonly key: string; readonly flow: ReportedFlow }): void {
    this.#put(this.#run(run), key, { flow, after, isStored: false });
  }

  /** Adds a flow of a batch of what was left behind. A report that this process got is newer. */
  addStored(run: string, after: number, flow: ReportedFlow, storedAtMs: number): void {
    if (this.#newestRun === '') this.#newestRun = run;
    const { flows } = this.#run(run, storedAtMs);
    const key = flowKey(flow);
    const before = flows.get(key);
    if (before === undefined) flows.set(key, { flow, after, isStored: true });
    else if (before.after === after && before.flow.connections === flow.connections) before.isStored = true;
  }

  /** Adds a flow that an earlier process had from a report. Batches that are read afterwards replace it as any other. */
  restore(run: string, after: number, flow: ReportedFlow, heardAtMs: number): void {
    if (this.#newestRun === '') this.#newestRun = run;
    this.#put(this.#run(run, heardAtMs), flowKey(flow), { flow, after, isStored: false, isRestored: true });
  }

  get hasRestored(): boolean {
    for (const { flows } of this.#runs.values()) {
      for (const { isRestored, isStored } of flows.values()) if (isRestored === true && !isStored) return true;
    }
    return false;
  }

  /** A batch is stored: it contains what was reported before it was made. */
  replace({ run, sequence, flows: stored }: FlowBatch, storedAtMs: number): void {
    this.heard(run, storedAtMs);
    const { flows, dropped } = this.#run(run);
    for (const flow of stored) {
      const key = flowKey(flow);
      if ((flows.get(key)?.after ?? sequence) < sequence) flows.delete(key);
      dropped.delete(key);
    }
  }

  *flows(): Generator<ReportedFlow> {
    for (const { flows } of this.#runs.values()) for (const { flow } of flows.values()) yield flow;
  }

  /** Connections of flows for which there was no room. */
  get dropped(): number {
    let sum = 0;
    for (const { dropped } of this.#runs.values()) for (const connections of dropped.values()) sum += connections;
    return sum;
  }

  /** Connections that a run reported and did not store. */
  connectionsOf(run: string): number {
    return [...(this.#runs.get(run)?.flows.values() ?? [])].reduce((sum, { flow }) => sum + flow.connections, 0);
  }

  /**
   * What the stream lacks of runs that have ended or are silent; `isEnding`: of all. What is stored stays here: a run that is
   * heard of again replaces it.
   */
  leftBehind(nowMs: number, isEnding: boolean): LeftFlows[] {
    const left: LeftFlows[] = [];
    for (const [run, { flows, heardAtMs }] of this.#runs) {
      if (!isEnding && run === this.#newestRun && nowMs - heardAtMs < silentAfterMs) continue;
      const byAfter = new Map<number, RecentFlow[]>();
      for (const recent of flows.values()) {
        if (recent.isStored) continue;
        const same = byAfter.get(recent.after);
        if (same === undefined) byAfter.set(recent.after, [recent]);
        else same.push(recent);
      }
      for (const [after, entries] of byAfter) {
        const stored = (of: readonly ReportedFlow[]): void => {
          const these = new Set(of);
          for (const entry of entries) if (these.has(entry.flow)) entry.isStored = true;
        };
        left.push({ run, after, flows: entries.map(({ flow }) => flow), stored });
      }
    }
    return left;
  }

  /** Takes out the runs that have ended, as far as the stream has what they left. */
  takeEnded(): { readonly run: string; readonly flows: readonly ReportedFlow[] }[] {
    const ended = [...this.#runs].filter(
      ([run, { flows }]) => run !== this.#newestRun && [...flows.values()].every(({ isStored }) => isStored),
    );
    for (const [run] of ended) this.#runs.delete(run);
    return ended.map(([run, { flows }]) => ({ run, flows: [...flows.values()].map(({ flow }) => flow) }));
  }

  /** Drops what was last seen before `beforeMs`, and runs that were last heard of before. */
  forget(beforeMs: number): void {
    for (const [run, { flows, heardAtMs }] of this.#runs) {
      for (const [key, { flow }] of flows) if (flow.lastSeenMs < beforeMs) flows.delete(key);
      if (flows.size === 0 && heardAtMs < beforeMs) this.#runs.delete(run);
    }
  }

  /** Drops everything, and returns how many connections that were. */
  clear(): number {
    let sum = this.dropped;
    for (const { connections } of this.flows()) sum += connections;
    this.#runs.clear();
    return sum;
  }

  #put({ flows, dropped }: Run, key: string, recent: RecentFlow): void {
    if (!flows.has(key) && this.#flowCount >= maxFlowsOfNode) {
      if (dropped.has(key) || dropped.size < maxFlowsOfNode) dropped.set(key, recent.flow.connections);
      return;
    }
    flows.set(key, recent);
  }

  get #flowCount(): number {
    let count = 0;
    for (const { flows } of this.#runs.values()) count += flows.size;
    return count;
  }

  #run(run: string, heardAtMs = 0): Run {
    let found = this.#runs.get(run);
    if (found === undefined) {
      this.#runs.set(run, (found = { flows: new Map(), named: new Map(), dropped: new Map(), heardAtMs }));
    }
    return found;
  }
}
