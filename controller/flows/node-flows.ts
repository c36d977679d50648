import { flowKey, type LostRun, type ReportedFlow } from '../../shared/wire/flows.js';
import { FlowCounters, type FlowName } from './flow-counters.js';
import { RecentFlows } from './recent-flows.js';

export const hourMs = 3_600_000;
export const dayMs = 24 * hourMs;

/** A recent flow has its names by itself; an entry shares them with the other hours. */
const recentWeight = 4;
/** Runs of one node that are remembered; an agent that dies every minute has 1,440 a day. */
const maxRuns = 1500;

/**
 * The flows of one hour, or of one day further back. `notKept`: connections that are not in the entries. `lost`: that
 * no agent could report.
 */
type Bucket = { readonly startMs: number; readonly entries: Map<string, FlowCounters>; notKept: number; lost: number };

/** The flows that one node reported, by hour and, further back, by day (UTC). The caller bounds the memory of all nodes. */
export class NodeFlows {
  readonly #hours = new Map<number, Bucket>();
  readonly #days = new Map<number, Bucket>();
  readonly #names = new Map<string, FlowName>();
  readonly recent = new RecentFlows();
  /** The last sequence of each run; several, because batches of what was left behind come in between. */
  readonly #sequences = new Map<string, number>();
  /** Runs that were killed. */
  readonly #lostRuns = new Map<string, { readonly atMs: number; readonly connections: number }>();
  /** Runs that have ended: the connections that were taken over from their reports. */
  readonly #ended = new Map<string, number>();
  #size = 0;

  /** Number of entries: flows times buckets, and what is recent by its size. */
  get size(): number {
    return this.#size + this.recent.size * recentWeight;
  }

  get isEmpty(): boolean {
    return this.#hours.size === 0 && this.#days.size === 0 && this.recent.isEmpty;
  }

  /** False when the batch is a repetition. An agent repeats a batch when it got no confirmation that it was stored. */
  accept(run: string, sequence: number): boolean {
    if (sequence <= (this.#sequences.get(run) ?? 0)) return false;
    this.#sequences.delete(run);
    remember(this.#sequences, run, sequence);
    return true;
  }

  /**
   * Adds a flow of a batch of what was left behind, unless it is in a batch of the agent by now. `after`: the sequence of the
   * last batch before it was reported.
   */
  addLeftBehind(o: {
    readonly run: string;
    readonly after: number;
    readonly flow: ReportedFlow;
    readonly storedAtMs: number;
  }): void {
    const { run, after, flow, storedAtMs } = o;
    if (this.#ended.has(run)) return;
    if ((this.#sequences.get(run) ?? 0) > after && this.#hasSeen(flow)) return;
    // Most of them have ended long ago: what they left need not wait until all is read.
    if (this.recent.hasNoRoomFor(run)) this.settleEnded();
    this.recent.addStored(run, after, flow, storedAtMs);
  }

  hasEnded(run: string): boolean {
    return this.#ended.has(run);
  }

  /** Takes over what ended runs left, as far as the stream has it. */
  settleEnded(): void {
    for (const { run, flows } of this.recent.takeEnded()) {
      for (const flow of flows) this.add(flow);
      remember(
        this.#ended,
        run,
        flows.reduce((sum, { connections }) => sum + connections, 0),
      );
    }
  }

  add(flow: ReportedFlow): void {
    this.#addTo(bucketAt(this.#hours, flow.lastSeenMs, hourMs), this.#nameOf(flow), flow);
  }

  countNotKept(atMs: number, connections: number): void {
    if (connections > 0) bucketAt(this.#hours, atMs, hourMs).notKept += connections;
  }

  countLost(atMs: number, connections: number): void {
    if (connections > 0) bucketAt(this.#hours, atMs, hourMs).lost += connections;
  }

  countLostRun(atMs: number, { run, connections }: LostRun): void {
    remember(this.#lostRuns, run, { atMs, connections });
  }

  lostSince(sinceMs: number): number {
    let lost = this.#buckets()
      .filter(({ bucket, spanMs }) => bucket.startMs + spanMs > sinceMs)
      .reduce((sum, { bucket }) => sum + bucket.lost, 0);
    for (const [run, { atMs, connections }] of this.#lostRuns) {
      // What the run had reported is not lost.
      const known = this.#ended.get(run) ?? this.recent.connectionsOf(run);
      if (atMs + hourMs > sinceMs) lost += Math.max(0, connections - known);
    }
    return lost;
  }

  /** Merges hours that began before `beforeMs` into days. */
  foldHours(beforeMs: number): void {
    for (const [startMs, hour] of this.#hours) {
      if (startMs >= beforeMs) continue;
      const day = bucketAt(this.#days, startMs, dayMs);
      day.notKept += hour.notKept;
      day.lost += hour.lost;
      for (const counters of hour.entries.values()) this.#addTo(day, counters.name, counters);
      this.#drop(this.#hours, startMs);
    }
  }

  /** Drops buckets that ended before `beforeMs`. */
  forget(beforeMs: number): void {
    for (const startMs of this.#hours.keys()) if (startMs + hourMs <= beforeMs) this.#drop(this.#hours, startMs);
    for (const startMs of this.#days.keys()) if (startMs + dayMs <= beforeMs) this.#drop(this.#days, startMs);
    for (const [run, { atMs }] of this.#lostRuns) if (atMs + dayMs <= beforeMs) this.#lostRuns.delete(run);
    this.recent.forget(beforeMs);
  }

  /** Drops the flows of the oldest non-empty bucket, and the recent ones last; the number of their connections stays known. */
  shrink(atMs: number): void {
    const oldest = this.#buckets().find(({ bucket }) => bucket.entries.size > 0);
    if (oldest === undefined) return this.countNotKept(atMs, this.recent.clear());
    const { bucket } = oldest;
    for (const counters of bucket.entries.values()) bucket.notKept += counters.connections;
    this.#empty(bucket);
  }

  /** When the oldest flow was first seen; null without flows. */
  get oldestMs(): number | null {
    const oldest = this.#buckets().find(({ bucket }) => bucket.entries.size > 0)?.bucket;
    const seen = [...(oldest?.entries.values() ?? []), ...this.recent.flows()];
    return seen.length === 0 ? null : seen.reduce((least, { firstSeenMs }) => Math.min(least, firstSeenMs), Infinity);
  }

  /** Sums every flow seen since `sinceMs` into `sums`, by key, with its days. Returns how many connections were not kept. */
  collect(sinceMs: number, sums: Map<string, CollectedFlow>): number {
    let notKept = this.recent.dropped;
    for (const { bucket, spanMs } of this.#buckets()) {
      if (bucket.startMs + spanMs <= sinceMs) continue;
      notKept += bucket.notKept;
      for (const [key, counters] of bucket.entries) {
        if (counters.lastSeenMs < sinceMs) continue;
        let sum = sums.get(key);
        if (sum === undefined) sums.set(key, (sum = { counters: new FlowCounters(counters), days: new Set() }));
        sum.counters.add(counters);
        sum.days.add(Math.floor(bucket.startMs / dayMs));
      }
    }
    for (const flow of this.recent.flows()) {
      if (flow.lastSeenMs < sinceMs) continue;
      const key = flowKey(flow);
      let sum = sums.get(key);
      const name = { key, flow, uses: 0 };
      if (sum === undefined) sums.set(key, (sum = { counters: new FlowCounters({ name }), days: new Set() }));
      sum.counters.add(flow);
      sum.days.add(Math.floor(flow.lastSeenMs / dayMs));
    }
    return notKept;
  }

  /** Whether an entry has connections of this flow up to its last one. */
  #hasSeen(flow: ReportedFlow): boolean {
    const key = flowKey(flow);
    return this.#buckets().some(({ bucket }) => (bucket.entries.get(key)?.lastSeenMs ?? -1) >= flow.lastSeenMs);
  }

  /** Oldest first. */
  #buckets(): { readonly bucket: Bucket; readonly spanMs: number }[] {
    return [
      ...[...this.#days.values()].map((bucket) => ({ bucket, spanMs: dayMs })),
      ...[...this.#hours.values()].map((bucket) => ({ bucket, spanMs: hourMs })),
    ].sort((a, b) => a.bucket.startMs - b.bucket.startMs);
  }

  #nameOf(flow: ReportedFlow): FlowName {
    const key = flowKey(flow);
    let name = this.#names.get(key);
    if (name === undefined) this.#names.set(key, (name = { key, flow, uses: 0 }));
    return name;
  }

  #addTo(bucket: Bucket, name: FlowName, numbers: Parameters<FlowCounters['add']>[0]): void {
    let counters = bucket.entries.get(name.key);
    if (counters === undefined) {
      counters = new FlowCounters({ name });
      bucket.entries.set(name.key, counters);
      name.uses += 1;
      this.#size += 1;
    }
    counters.add(numbers);
  }

  #drop(buckets: Map<number, Bucket>, startMs: number): void {
    const bucket = buckets.get(startMs);
    if (bucket !== undefined) this.#empty(bucket);
    buckets.delete(startMs);
  }

  #empty(bucket: Bucket): void {
    for (const { name } of bucket.entries.values()) {
      name.uses -= 1;
      this.#size -= 1;
      if (name.uses === 0) this.#names.delete(name.key);
    }
    bucket.entries.clear();
  }
}

/** A flow summed over its buckets. */
export type CollectedFlow = { readonly counters: FlowCounters; readonly days: Set<number> };

function remember<Value>(runs: Map<string, Value>, run: string, value: Value): void {
  runs.set(run, value);
  const [oldest] = runs.keys();
  if (runs.size > maxRuns && oldest !== undefined) runs.delete(oldest);
}

function bucketAt(buckets: Map<number, Bucket>, atMs: number, spanMs: number): Bucket {
  const startMs = Math.floor(atMs / spanMs) * spanMs;
  let bucket = buckets.get(startMs);
  if (bucket === undefined) buckets.set(startMs, (bucket = { startMs, entries: new Map(), notKept: 0, lost: 0 }));
  return bucket;
}
