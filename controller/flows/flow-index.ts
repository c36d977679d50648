import type { FlowBatch, FlowRecord, ReportedFlow } from '../../shared/wire/flows.js';
import type { RecentFlowReport } from '../../shared/wire/recent-flows.js';
import type { LeftFlows } from './recent-flows.js';
import { dayMs, NodeFlows, type CollectedFlow } from './node-flows.js';
import type { NodeName } from '../../shared/routing/names.js';

/**
 * Entries of all nodes together, about 100 bytes each; a recent flow counts as four. Beyond it the node with the most
 * entries drops its oldest.
 */
const maxEntries = 300_000;
/** Entries are per hour for this long; older ones are per day. */
const hourlyForMs = 2 * dayMs;
/** When an agent's clock is off by more than this, the server's storing time is used instead. */
const clockToleranceMs = 60_000;

export type FlowQuery = {
  /** Only flows seen since then. Precise to the hour, and to the day beyond two days. */
  readonly sinceMs: number;
  /** Only flows with a party in this namespace; null: all. */
  readonly namespace: string | null;
};

export type FoundFlows = {
  /** Most recently seen first. */
  readonly flows: readonly FlowRecord[];
  /** Connections of that time that are in no flow: aggregated, refused or dropped because there were too many. */
  readonly notKept: number;
  /** When the oldest flow in memory was first seen; null without flows. */
  readonly oldestMs: number | null;
};

/**
 * The flows that all agents reported, summed by flow and hour, in bounded memory. A node that floods loses its own history
 * first. Nothing is persisted here: the stream is the store.
 */
export class FlowIndex {
  readonly #nodes = new Map<NodeName, NodeFlows>();
  readonly #nowMs: () => number;
  readonly #retentionMs: number;
  readonly #maxEntries: number;
  #size = 0;
  #maintainedMs = 0;

  constructor(init: { readonly nowMs: () => number; readonly retentionMs: number; readonly maxEntries?: number }) {
    this.#nowMs = init.nowMs;
    this.#retentionMs = init.retentionMs;
    this.#maxEntries = init.maxEntries ?? maxEntries;
  }

  /** Number of entries: flows times hours or days. */
  get size(): number {
    return this.#size;
  }

  /**
   * Adds a batch that `node` sent. Flows for which `isOwn` is false are dropped: the node cannot have seen them.
   * `storedAtMs`: when the server stored the batch.
   */
  add(o: {
    readonly node: NodeName;
    readonly batch: FlowBatch;
    readonly storedAtMs: number;
    readonly isOwn: (flow: ReportedFlow) => boolean;
  }): 'kept' | 'repeated' | 'foreign' {
    const { node, batch, storedAtMs } = o;
    const flows = this.#nodes.get(node) ?? new NodeFlows();
    if (batch.leftAfter !== undefined) return this.#addLeftBehind(flows, { ...o, after: batch.leftAfter });
    if (!flows.accept(batch.run, batch.sequence)) return 'repeated';
    this.#nodes.set(node, flows);
    const before = flows.size;
    flows.recent.replace(batch, storedAtMs);
    flows.countNotKept(storedAtMs, batch.notKept);
    const lostRuns = batch.lostRuns ?? [];
    // What the killed runs say of themselves is more precise than the sum.
    const ofRuns = lostRuns.reduce((sum, { unreported }) => sum + unreported, 0);
    flows.countLost(storedAtMs, Math.max(0, (batch.lost ?? 0) - ofRuns));
    for (const lost of lostRuns) flows.countLostRun(storedAtMs, lost);
    let hasForeign = false;
    for (const reported of batch.flows) {
      const flow = onServerTime(reported, batch.sentAtMs, storedAtMs);
      if (!o.isOwn(flow)) {
        hasForeign = true;
        flows.countNotKept(storedAtMs, flow.connections);
      } else if (flow.lastSeenMs < this.#nowMs() - this.#retentionMs) {
        flows.countNotKept(storedAtMs, flow.connections);
      } else flows.add(flow);
    }
    this.#size += flows.size - before;
    this.#maintain();
    return hasForeign ? 'foreign' : 'kept';
  }

  /** Takes what `node` has not stored yet. Flows for which `isOwn` is false are dropped. */
  addRecent(o: {
    readonly node: NodeName;
    readonly report: RecentFlowReport;
    readonly receivedAtMs: number;
    readonly isOwn: (flow: ReportedFlow) => boolean;
  }): { readonly hasForeign: boolean; readonly isUnknown: boolean } {
    const { node, report, receivedAtMs } = o;
    const { run, after, sentAtMs, ids } = report;
    const flows = this.#nodes.get(node) ?? new NodeFlows();
    this.#nodes.set(node, flows);
    const before = flows.size;
    const { recent } = flows;
    let [hasForeign, isUnknown] = [false, false];
    recent.heard(run, receivedAtMs);
    for (const [index, flow] of report.flows.entries()) {
      if (o.isOwn(flow)) recent.add(run, after, onServerTime(flow, sentAtMs, receivedAtMs), ids?.[index]);
      else hasForeign = true;
    }
    for (const numbers of report.again ?? []) {
      const found = recent.find(run, numbers);
      if (found === undefined) isUnknown = true;
      else if (o.isOwn(found.flow)) {
        recent.addAgain(run, after, { key: found.key, flow: onServerTime(found.flow, sentAtMs, receivedAtMs) });
      } else hasForeign = true;
    }
    this.#size += flows.size - before;
    this.#maintain();
    return { hasForeign, isUnknown };
  }

  /** Takes what an earlier process had and the stream lacks. */
  restore(o: Parameters<FlowIndex['add']>[0]): void {
    const { node, batch, storedAtMs } = o;
    const flows = this.#nodes.get(node) ?? new NodeFlows();
    this.#nodes.set(node, flows);
    const oldestMs = this.#nowMs() - this.#retentionMs;
    this.#resize(flows, () => {
      for (const flow of batch.flows) {
        if (flow.lastSeenMs < oldestMs || !o.isOwn(flow)) continue;
        flows.recent.restore(batch.run, batch.leftAfter ?? 0, flow, storedAtMs);
      }
    });
    this.#maintain();
  }

  /** Whether something that {@link restore} took is still in memory only. */
  get hasRestored(): boolean {
    return [...this.#nodes.values()].some(({ recent }) => recent.hasRestored);
  }

  /** How many nodes reported within this time. */
  heardWithin(ms: number): number {
    const sinceMs = this.#nowMs() - ms;
    let count = 0;
    for (const { recent } of this.#nodes.values()) if ((recent.asOfMs ?? 0) >= sinceMs) count += 1;
    return count;
  }

  /** What ended runs left and the stream has is history from now on. The stream must have been read. */
  settleEnded(): void {
    for (const flows of this.#nodes.values()) this.#resize(flows, () => flows.settleEnded());
  }

  /** Drops what a node had reported and not stored, and counts it as lost. */
  forgetRecent(node: NodeName): void {
    const flows = this.#nodes.get(node);
    if (flows !== undefined) this.#resize(flows, () => flows.countLost(this.#nowMs(), flows.recent.clear()));
  }

  #addLeftBehind(
    flows: NodeFlows,
    o: Parameters<FlowIndex['add']>[0] & { readonly after: number },
  ): 'kept' | 'repeated' | 'foreign' {
    const { node, batch, storedAtMs, after } = o;
    const { run } = batch;
    if (flows.hasEnded(run)) return 'repeated';
    this.#nodes.set(node, flows);
    const oldestMs = this.#nowMs() - this.#retentionMs;
    const own = batch.flows.filter((flow) => o.isOwn(flow));
    this.#resize(flows, () => {
      for (const flow of own) if (flow.lastSeenMs >= oldestMs) flows.addLeftBehind({ run, after, flow, storedAtMs });
    });
    this.#maintain();
    return own.length < batch.flows.length ? 'foreign' : 'kept';
  }

  /** By the controller's clock: the records of `node` contain what ended before this. Null: it has reported nothing. */
  asOfMs(node: NodeName): number | null {
    return this.#nodes.get(node)?.recent.asOfMs ?? null;
  }

  /** Connections since then that are in no record. Precise to the hour. */
  lostSince(sinceMs: number): number {
    return [...this.#nodes.values()].reduce((sum, flows) => sum + flows.lostSince(sinceMs), 0);
  }

  /** See {@link RecentFlows.leftBehind}. */
  leftBehind({ isEnding }: { readonly isEnding: boolean }): (LeftFlows & { readonly node: NodeName })[] {
    return [...this.#nodes].flatMap(([node, { recent }]) =>
      recent.leftBehind(this.#nowMs(), isEnding).map((left) => ({ node, ...left })),
    );
  }

  query({ sinceMs, namespace }: FlowQuery): FoundFlows {
    this.#maintain();
    const found: FlowRecord[] = [];
    let notKept = 0;
    let oldestMs: number | null = null;
    for (const [node, flows] of this.#nodes) {
      const sums = new Map<string, CollectedFlow>();
      notKept += flows.collect(sinceMs, sums);
      for (const sum of sums.values()) {
        if (namespace === null || isIn(namespace, sum.counters.name.flow)) found.push(toRecord(node, sum));
      }
      const oldest = flows.oldestMs;
      if (oldest !== null) oldestMs = Math.min(oldestMs ?? oldest, oldest);
    }
    return { flows: found.sort((a, b) => b.lastSeenMs - a.lastSeenMs), notKept, oldestMs };
  }

  /** Expires and folds entries once a minute, and frees room whenever there are too many. */
  #maintain(): void {
    const now = this.#nowMs();
    if (Math.abs(now - this.#maintainedMs) >= 60_000) {
      this.#maintainedMs = now;
      const foldBeforeMs = Math.floor((now - hourlyForMs) / dayMs) * dayMs;
      for (const [node, flows] of this.#nodes) {
        this.#resize(flows, () => {
          flows.forget(now - this.#retentionMs);
          flows.foldHours(foldBeforeMs);
        });
        if (flows.isEmpty && (flows.recent.asOfMs ?? 0) < now - this.#retentionMs) this.#nodes.delete(node);
      }
    }
    if (this.#size <= this.#maxEntries) return;
    // Frees 5% at once: otherwise every new entry would have to look for a victim.
    while (this.#size > this.#maxEntries * 0.95) {
      const largest = [...this.#nodes.values()].reduce((most, flows) => (flows.size > most.size ? flows : most));
      this.#resize(largest, () => largest.shrink(this.#nowMs()));
    }
  }

  #resize(flows: NodeFlows, change: () => void): void {
    const before = flows.size;
    change();
    this.#size += flows.size - before;
  }
}

/** Its times, by the server's clock when the agent's is far off, and never in the future. */
function onServerTime(flow: ReportedFlow, sentAtMs: number, storedAtMs: number): ReportedFlow {
  const offMs = storedAtMs - sentAtMs;
  const shiftMs = Math.abs(offMs) > clockToleranceMs ? offMs : 0;
  const lastSeenMs = Math.min(flow.lastSeenMs + shiftMs, storedAtMs);
  const firstSeenMs = Math.max(0, Math.min(flow.firstSeenMs + shiftMs, lastSeenMs));
  return { ...flow, firstSeenMs, lastSeenMs };
}

function toRecord(node: NodeName, { counters, days }: CollectedFlow): FlowRecord {
  const { revision, connections, bytesSent, bytesReceived, firstSeenMs, lastSeenMs } = counters;
  const numbers = { revision, connections, bytesSent, bytesReceived, firstSeenMs, lastSeenMs };
  return { node, ...counters.name.flow, ...numbers, daysSeen: days.size };
}

function isIn(namespace: string, { source, destination }: ReportedFlow): boolean {
  return [source, destination].some(({ workload }) => workload?.startsWith(`${namespace}/`) === true);
}
