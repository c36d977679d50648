import type { FlowBatch, FlowRecord, ReportedFlow } from '../../shared/wire/flows.js';
import { dayMs, NodeFlows, type CollectedFlow } from './node-flows.js';
import type { NodeName } from '../../shared/routing/names.js';

/** Entries of all nodes together: some 100 bytes each. Beyond it the node with the most gives up its oldest. */
const maxEntries = 300_000;
/** Hours are kept apart for so long; further back, whole days. */
const hourlyForMs = 2 * dayMs;
/** A clock that is further off than this is not believed: the server's time of storing counts instead. */
const clockToleranceMs = 60_000;

export type FlowQuery = {
  /** Flows that were seen since: to the hour, more than two days back to the day. */
  readonly sinceMs: number;
  /** Flows with an end in it; null: all. */
  readonly namespace: string | null;
};

export type FoundFlows = {
  /** Seen last first. */
  readonly flows: readonly FlowRecord[];
  /** Connections of that time that no flow shows: summed up, refused or forgotten because there were too many. */
  readonly notKept: number;
  /** When the oldest flow that is held was first seen; null: none is. */
  readonly oldestMs: number | null;
};

/**
 * What all agents reported, added up by flow and hour, in bounded memory. A node that floods loses its own history first.
 * Pure memory: the stream is the store.
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

  /** Entries that are held: flows times hours or days. */
  get size(): number {
    return this.#size;
  }

  /**
   * Takes a batch that `node` sent. `isOwn` says of a flow whether that node can have seen it; others are left out.
   * `storedAtMs`: when the server stored it.
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
    flows.countNotKept(storedAtMs, batch.notKept);
    const offMs = storedAtMs - batch.sentAtMs;
    const shiftMs = Math.abs(offMs) > clockToleranceMs ? offMs : 0;
    let hasForeign = false;
    for (const flow of batch.flows) {
      const lastSeenMs = Math.min(flow.lastSeenMs + shiftMs, storedAtMs);
      const firstSeenMs = Math.max(0, Math.min(flow.firstSeenMs + shiftMs, lastSeenMs));
      if (!o.isOwn(flow)) {
        hasForeign = true;
        flows.countNotKept(storedAtMs, flow.connections);
      } else if (lastSeenMs < this.#nowMs() - this.#retentionMs) {
        flows.countNotKept(storedAtMs, flow.connections);
      } else flows.add({ ...flow, firstSeenMs, lastSeenMs });
    }
    this.#size += flows.size - before;
    this.#maintain();
    return hasForeign ? 'foreign' : 'kept';
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

  /** Forgets and folds once a minute, and makes room whenever there is too much. */
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
        if (flows.isEmpty) this.#nodes.delete(node);
      }
    }
    if (this.#size <= this.#maxEntries) return;
    // Some room at once: otherwise every entry that comes would look for a victim.
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

function toRecord(node: NodeName, { counters, days }: CollectedFlow): FlowRecord {
  const { revision, connections, bytesSent, bytesReceived, firstSeenMs, lastSeenMs } = counters;
  const numbers = { revision, connections, bytesSent, bytesReceived, firstSeenMs, lastSeenMs };
  return { node, ...counters.name.flow, ...numbers, daysSeen: days.size };
}

function isIn(namespace: string, { source, destination }: ReportedFlow): boolean {
  return [source, destination].some(({ workload }) => workload?.startsWith(`${namespace}/`) === true);
}
