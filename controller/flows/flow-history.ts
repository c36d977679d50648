import type { Bus, StoredMessage, StreamFollow } from '../../shared/bus/bus.js';
import { flowStream, parseSubject, subjectFor, subjectForAllNodes } from '../../shared/bus/subjects.js';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { decodeFlowBatch, encodeFlowBatch, maxFlowMessageBytes, splitFlows } from '../../shared/wire/flow-batch.js';
import type { FlowBatch, ReportedFlow } from '../../shared/wire/flows.js';
import { decodeRecentFlows, recentEveryMs, type RecentAnswer } from '../../shared/wire/recent-flows.js';
import { FlowIndex, type FlowQuery, type FoundFlows } from './flow-index.js';
import type { NodeName } from '../../shared/routing/names.js';

export const flowBatchOutcomes = ['kept', 'repeated', 'foreign', 'removed', 'bad'] as const;
/**
 * `foreign`: it contained flows of other nodes' workloads, which were dropped. `removed`: the node was no member. `bad`: it
 * was malformed.
 */
export type FlowBatchOutcome = (typeof flowBatchOutcomes)[number];

/** Agents report at once for this long after records were read. */
const followedForMs = 15_000;
const storeTimeoutMs = 10_000;
/** How many nodes get a warning for bad batches; one warning per node is enough. */
const maxSuspects = 1000;

/**
 * Flow records of the last days. The stream `CULVERT_FLOWS` stores them; this class reads it from the start and answers
 * from memory. An outage of NATS loses nothing that was read, and a restart reads the stream again.
 */
export class FlowHistory {
  readonly #index: FlowIndex;
  readonly #retentionMs: number;
  readonly #maxBytes: number;
  readonly #isOwn: (node: NodeName, flow: ReportedFlow) => boolean;
  readonly #wasOut: (node: NodeName, atMs: number) => boolean;
  readonly #log: Log;
  readonly #onBatch: (outcome: FlowBatchOutcome) => void;
  readonly #suspects = new Set<string>();
  readonly #nowMs: () => number;
  #follow: StreamFollow | null = null;
  #bus: Bus | null = null;
  /** When records were last read. */
  #askedMs = Number.NEGATIVE_INFINITY;
  #lastProblem = '';

  /**
   * `maxBytes`: disk space for the stream. `isOwn`: whether a node can have seen a flow. `wasOut`: whether it was removed from the
   * mesh at that time; default: none was.
   */
  constructor(init: {
    readonly retentionMs: number;
    readonly maxBytes: number;
    readonly isOwn: (node: NodeName, flow: ReportedFlow) => boolean;
    readonly wasOut?: (node: NodeName, atMs: number) => boolean;
    readonly nowMs: () => number;
    readonly log: Log;
    readonly onBatch: (outcome: FlowBatchOutcome) => void;
  }) {
    const { nowMs, retentionMs } = init;
    this.#nowMs = nowMs;
    this.#index = new FlowIndex({ nowMs, retentionMs });
    this.#retentionMs = retentionMs;
    this.#maxBytes = init.maxBytes;
    this.#isOwn = init.isOwn;
    this.#wasOut = init.wasOut ?? ((): boolean => false);
    this.#log = init.log;
    this.#onBatch = init.onBatch;
  }

  /** All stored records have been read, and new ones are read as they arrive. */
  get isCurrent(): boolean {
    return this.#follow?.isCurrent ?? false;
  }

  get entries(): number {
    return this.#index.size;
  }

  query(query: FlowQuery): FoundFlows {
    this.#askedMs = this.#nowMs();
    return this.#index.query(query);
  }

  /** A report of flows that `node` has not stored yet. Throws CulvertError `WIRE_INVALID`. */
  takeRecent(node: NodeName, bytes: Uint8Array): RecentAnswer {
    const report = decodeRecentFlows(bytes);
    const isOwn = (flow: ReportedFlow): boolean => this.#isOwn(node, flow);
    const receivedAtMs = this.#nowMs();
    const outcome = this.#index.addRecent({ node, report, receivedAtMs, isOwn });
    if (outcome === 'foreign') this.#suspect(node, "it reported flows of other nodes' workloads");
    return { everyMs: receivedAtMs - this.#askedMs < followedForMs ? recentEveryMs.least : recentEveryMs.most };
  }

  /** See {@link FlowIndex.asOfMs}. */
  asOfMs(node: NodeName): number | null {
    return this.#index.asOfMs(node);
  }

  lostSince(sinceMs: number): number {
    return this.#index.lostSince(sinceMs);
  }

  /**
   * Stores what killed agents had reported, in their name: only the stream survives a restart of the controller. The owner
   * calls it from time to time; what could not be stored is tried again then.
   */
  async storeLeftBehind(): Promise<void> {
    const bus = this.#bus;
    if (bus === null || !this.isCurrent) return;
    for (const { node, run, after, flows } of this.#index.leftBehind()) {
      let sequence = after;
      for (const part of splitFlows(flows)) {
        sequence += 1;
        const batch = encodeFlowBatch({ run, sequence, sentAtMs: this.#nowMs(), notKept: 0, flows: part });
        await bus.store(subjectFor('flows', node), batch, { timeoutMs: storeTimeoutMs });
      }
    }
  }

  /** Creates the stream and follows it until the signal aborts or the bus closes. Never rejects. */
  async follow(bus: Bus, signal: AbortSignal): Promise<void> {
    const filter = subjectForAllNodes('flows');
    this.#bus = bus;
    this.#follow = bus.followStream({
      stream: flowStream,
      filter,
      prepare: () =>
        bus.ensureStream({
          name: flowStream,
          subjects: [filter],
          maxAgeMs: this.#retentionMs,
          maxBytes: this.#maxBytes,
          maxMessageBytes: maxFlowMessageBytes,
        }),
      onMessage: (message) => this.#take(message),
      onProblem: (error) => this.#report(error),
      signal,
    });
    await this.#follow.closed;
  }

  /** Takes the node from the subject, which proves it. */
  #take({ subject, bytes, storedAtMs }: StoredMessage): void {
    const proved = parseSubject(subject);
    if (proved?.verb !== 'flows') return this.#onBatch('bad');
    const { node } = proved;
    // Where the operator runs NATS, a node that was removed can store batches until its credential ends.
    if (this.#wasOut(node, storedAtMs)) return this.#onBatch('removed');
    let batch: FlowBatch;
    try {
      batch = decodeFlowBatch(bytes);
    } catch (error) {
      this.#suspect(node, describeError(error));
      return this.#onBatch('bad');
    }
    const isOwn = (flow: ReportedFlow): boolean => this.#isOwn(node, flow);
    const outcome = this.#index.add({ node, batch, storedAtMs, isOwn });
    if (outcome === 'foreign') this.#suspect(node, "it reported flows of other nodes' workloads");
    this.#onBatch(outcome);
  }

  #suspect(node: NodeName, problem: string): void {
    const isNews = !this.#suspects.has(node) && this.#suspects.size < maxSuspects;
    this.#suspects.add(node);
    this.#log[isNews ? 'warn' : 'debug']({ node, problem }, 'dropped flow records of a node');
  }

  #report(error: unknown): void {
    const problem = describeError(error);
    const level = problem === this.#lastProblem ? 'debug' : 'warn';
    this.#lastProblem = problem;
    this.#log[level]({ problem }, 'cannot read flow records; trying again');
  }
}
