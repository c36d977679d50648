import { flowKey, type FlowBatch, type ReportedFlow } from '../../shared/wire/flows.js';
import type { FlowAgain } from '../../shared/wire/recent-flows.js';

/** As many flows as an agent keeps, and some more. */
const maxFlowsOfNode = 12_000;
/** A run that is silent for this long may never store what it reported. */
const silentAfterMs = 5 * 60_000;
/** Runs of one node. Beyond it the one that was heard of least recently is forgotten. */
const maxRuns = 64;

type RecentFlow = {
  readonly flow: ReportedFlow;
  readonly after: number;
  /** Whether the stream has it, in a batch of what was left behind. */
  isStored: boolean;
  /** From an earlier process, and in no report since. */
  readonly isRestored?: true;
};

const nothing = { size: 0, flows: 0 } as const;

/** The flows of one agent process. */
type Run = {
  readonly flows: Map<string, RecentFlow>;
  /** By the number that the agent gave it. */
  readonly named: Map<number, { readonly key: string; readonly flow: ReportedFlow }>;
  /** Connections of flows for which there was no room, by flow: a later report has the same ones. */
  readonly dropped: Map<string, number>;
  heardAtMs: number;
  /** What of it is in the sums of all runs. */
  counted: { readonly size: number; readonly flows: number };
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
  #size = 0;
  #flowCount = 0;
  /** By the controller's clock: what ended before it is in the records. */
  asOfMs: number | null = null;

  get isEmpty(): boolean {
    return this.#runs.size === 0;
  }

  /** Flows and names held. */
  get size(): number {
    return this.#size;
  }

  /** Whether this run would take the place of another one. */
  hasNoRoomFor(run: string): boolean {
    return this.#runs.size >= maxRuns && !this.#runs.has(run);
  }

  heard(run: string, atMs: number): void {
    this.#newestRun = run;
    this.asOfMs = Math.max(this.asOfMs ?? 0, atMs);
    const found = this.#runs.get(run);
    if (found !== undefined) found.heardAtMs = atMs;
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
    const entry = this.#run(run, storedAtMs);
    const key = flowKey(flow);
    const before = entry.flows.get(key);
    if (before === undefined) {
      entry.flows.set(key, { flow, after, isStored: true });
      this.#count(entry);
    } else if (before.after === after && before.flow.connections === flow.connections) before.isStored = true;
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
    const entry = this.#runs.get(run);
    if (entry === undefined) return;
    const { flows, dropped } = entry;
    for (const flow of stored) {
      const key = flowKey(flow);
      if ((flows.get(key)?.after ?? sequence) < sequence) flows.delete(key);
      dropped.delete(key);
    }
    this.#count(entry);
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
    for (const [run] of ended) this.#drop(run);
    return ended.map(([run, { flows }]) => ({ run, flows: [...flows.values()].map(({ flow }) => flow) }));
  }

  /** Drops what was last seen before `beforeMs`, and runs that were last heard of before. */
  forget(beforeMs: number): void {
    for (const [run, entry] of this.#runs) {
      const { flows, heardAtMs } = entry;
      for (const [key, { flow }] of flows) if (flow.lastSeenMs < beforeMs) flows.delete(key);
      this.#count(entry);
      if (flows.size === 0 && heardAtMs < beforeMs) this.#drop(run);
    }
  }

  /** Drops everything, and returns how many connections that were. */
  clear(): number {
    let sum = this.dropped;
    for (const { connections } of this.flows()) sum += connections;
    this.#runs.clear();
    this.#size = 0;
    this.#flowCount = 0;
    return sum;
  }

  #put(entry: Run, key: string, recent: RecentFlow): void {
    const { flows, dropped } = entry;
    if (flows.has(key) || this.#flowCount < maxFlowsOfNode) flows.set(key, recent);
    else if (dropped.has(key) || dropped.size < maxFlowsOfNode) dropped.set(key, recent.flow.connections);
    this.#count(entry);
  }

  /** Keeps the sums of all runs right. To be called after every change of what a run holds. */
  #count(entry: Run): void {
    const { flows, named, dropped } = entry;
    const counted = { size: flows.size + named.size + dropped.size, flows: flows.size };
    this.#size += counted.size - entry.counted.size;
    this.#flowCount += counted.flows - entry.counted.flows;
    entry.counted = counted;
  }

  #drop(run: string): void {
    const { counted } = this.#runs.get(run) ?? { counted: nothing };
    this.#size -= counted.size;
    this.#flowCount -= counted.flows;
    this.#runs.delete(run);
  }

  #run(run: string, heardAtMs = run === this.#newestRun ? (this.asOfMs ?? 0) : 0): Run {
    let found = this.#runs.get(run);
    if (found === undefined) {
      const forgotten = this.hasNoRoomFor(run) ? this.#forgetLeastRecent() : 0;
      found = { flows: new Map(), named: new Map(), dropped: new Map(), heardAtMs, counted: nothing };
      if (forgotten > 0) found.dropped.set('', forgotten);
      this.#runs.set(run, found);
      this.#count(found);
    }
    return found;
  }

  /** How many connections that were. */
  #forgetLeastRecent(): number {
    let oldest: [string, Run] | undefined;
    for (const each of this.#runs) if (oldest === undefined || each[1].heardAtMs < oldest[1].heardAtMs) oldest = each;
    if (oldest === undefined) return 0;
    const [run, { flows, dropped }] = oldest;
    this.#drop(run);
    let connections = 0;
    for (const { flow } of flows.values()) connections += flow.connections;
    for (const count of dropped.values()) connections += count;
    return connections;
  }
}
