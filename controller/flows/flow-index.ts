import type { FlowBatch, FlowRecord, ReportedFlow } from '../../shared/wire/flows.js';
import type { RecentFlowReport } from '../../shared/wire/recent-flows.js';
import { dayMs, NodeFlows, type CollectedFlow } from './node-flows.js';
import type { NodeName } from '../../shared/routing/names.js';

/** Entries of all nodes together, about 100 bytes each. Beyond it the node with the most entries drops its oldest. */
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
    if (!flows.accept(batch.run, batch.sequence)) return 'repeated';
    this.#nodes.set(node, flows);
    const before = flows.size;
    flows.recent.replace(batch, storedAtMs);
    flows.countNotKept(storedAtMs, batch.notKept);
    flows.countLost(storedAtMs, batch.lost ?? 0);
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
  }): 'kept' | 'foreign' {
    const { node, report, receivedAtMs } = o;
    const flows = this.#nodes.get(node) ?? new NodeFlows();
    this.#nodes.set(node, flows);
    const own = report.flows.filter((flow) => o.isOwn(flow));
    const placed = own.map((flow) => onServerTime(flow, report.sentAtMs, receivedAtMs));
    flows.countNotKept(receivedAtMs, flows.recent.add({ ...report, flows: placed }, receivedAtMs));
    return own.length < report.flows.length ? 'foreign' : 'kept';
  }

  /** By the controller's clock: the records of `node` contain what ended before this. Null: it has reported nothing. */
  asOfMs(node: NodeName): number | null {
    return this.#nodes.get(node)?.recent.asOfMs ?? null;
  }

  /** Connections since then that are in no record. Precise to the hour. */
  lostSince(sinceMs: number): number {
    return [...this.#nodes.values()].reduce((sum, flows) => sum + flows.lostSince(sinceMs), 0);
  }

  /** What agents that were killed had reported and not stored, for the owner to store. */
  leftBehind(): {
    readonly node: NodeName;
    readonly run: string;
    readonly after: number;
    readonly flows: readonly ReportedFlow[];
  }[] {
    return [...this.#nodes].flatMap(([node, flows]) => flows.recent.leftBehind().map((left) => ({ node, ...left })));
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
      this.#resize(largest, () => largest.shrink());
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
