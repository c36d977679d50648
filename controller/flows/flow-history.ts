import { randomBytes } from 'node:crypto';
import type { Bus, StoredMessage, StreamFollow } from '../../shared/bus/bus.js';
import { flowStream, parseSubject, subjectFor, subjectForAllNodes } from '../../shared/bus/subjects.js';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { decodeFlowBatch, maxFlowMessageBytes } from '../../shared/wire/flow-batch.js';
import type { FlowBatch, FlowRecord, ReportedFlow } from '../../shared/wire/flows.js';
import { decodeRecentFlows, recentEveryMs, type RecentAnswer } from '../../shared/wire/recent-flows.js';
import { FlowIndex, type FlowQuery, type FoundFlows } from './flow-index.js';
import { RateLimiter } from '../access/rate-limiter.js';
import { StoredShares, type Excess } from './stored-shares.js';
import { dropLeftBehind, readLeftBehind, saveLeftBehind, storeLeftBehind } from './left-behind.js';
import type { NodeName } from '../../shared/routing/names.js';

const flowBatchOutcomes = ['kept', 'repeated', 'foreign', 'removed', 'limited', 'bad'] as const;
/**
 * `foreign`: it contained flows that the node cannot have seen, which were dropped. `removed`: the node was no member.
 * `limited`: it stored too many. `bad`: it was malformed.
 */
export type FlowBatchOutcome = (typeof flowBatchOutcomes)[number];

/** Agents report at once for this long after records were read. */
const followedForMs = 15_000;
/** All agents together may send a report every 4 ms; more would leave little of a core for anything else. */
const msPerReport = 4;
/** How often agents are counted for it. */
const countEveryMs = 1000;
/** How many nodes get a warning for bad batches; one warning per node is enough. */
const maxSuspects = 1000;
/**
 * Batches of one node. An agent stores one every 10 s, and 20 more when it sees 10,000 flows for the first time. What comes in
 * addition is not read: it would cost all others the time of the controller.
 */
const batchRate = { burst: 300, perSecond: 3 };
const foreignFlows = 'it reported flows that it cannot have seen';

/**
 * Flow records of the last days. The stream `CULVERT_FLOWS` stores them; this class reads it from the start and answers
 * from memory. An outage of NATS loses nothing that was read, and a restart reads the stream again.
 */
export class FlowHistory {
  readonly #index: FlowIndex;
  readonly #retentionMs: number;
  readonly #maxBytes: number;
  readonly #file: string | null;
  readonly #isOwn: (node: NodeName, flow: ReportedFlow, atMs: number) => boolean;
  readonly #mark: (records: readonly FlowRecord[]) => readonly FlowRecord[];
  readonly #wasOut: (node: NodeName, atMs: number) => boolean;
  readonly #log: Log;
  readonly #onBatch: (outcome: FlowBatchOutcome) => void;
  readonly #suspects = new Set<string>();
  readonly #rates = new RateLimiter(batchRate);
  readonly #shares: StoredShares;
  readonly #excess: Excess[] = [];
  #trimming: Promise<void> | null = null;
  readonly #nowMs: () => number;
  #follow: StreamFollow | null = null;
  #bus: Bus | null = null;
  /** When records were last read. */
  #askedMs = Number.NEGATIVE_INFINITY;
  #lastProblem = '';
  /** Tells agents that this process knows only what was reported to it. */
  readonly #instance = randomBytes(8).toString('hex');
  #agents = { count: 0, countedMs: Number.NEGATIVE_INFINITY };

  /**
   * `maxBytes`: disk space for the stream. `isOwn`: whether a node can have seen a flow that it reported at `atMs`. `mark`:
   * says who tells each record of an answer; default: nothing. `wasOut`: whether a node was removed from the mesh at that
   * time; default: none was.
   */
  constructor(init: {
    readonly retentionMs: number;
    readonly maxBytes: number;
    /** Keeps what is not stored while the controller restarts; default: none. */
    readonly file?: string;
    readonly isOwn: (node: NodeName, flow: ReportedFlow, atMs: number) => boolean;
    readonly mark?: (records: readonly FlowRecord[]) => readonly FlowRecord[];
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
    this.#shares = new StoredShares({ maxBytes: init.maxBytes });
    this.#file = init.file ?? null;
    this.#isOwn = init.isOwn;
    this.#mark = init.mark ?? ((records): readonly FlowRecord[] => records);
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
    const found = this.#index.query(query);
    return { ...found, flows: this.#mark(found.flows) };
  }

  /** A report of flows that `node` has not stored yet. Throws CulvertError `WIRE_INVALID`. */
  takeRecent(node: NodeName, bytes: Uint8Array): RecentAnswer {
    const report = decodeRecentFlows(bytes);
    const receivedAtMs = this.#nowMs();
    const isOwn = (flow: ReportedFlow): boolean => this.#isOwn(node, flow, receivedAtMs);
    const { hasForeign, isUnknown } = this.#index.addRecent({ node, report, receivedAtMs, isOwn });
    if (hasForeign) this.#suspect(node, foreignFlows);
    const everyMs = this.#everyMs(receivedAtMs);
    // Agents of an earlier version take no longer pause than this.
    const isEarlier = report.ids === undefined && report.again === undefined;
    return {
      everyMs: isEarlier ? Math.min(everyMs, recentEveryMs.most) : everyMs,
      instance: this.#instance,
      ...(isUnknown ? { isUnknown } : {}),
    };
  }

  /** See {@link FlowIndex.asOfMs}. */
  asOfMs(node: NodeName): number | null {
    return this.#index.asOfMs(node);
  }

  lostSince(sinceMs: number): number {
    return this.#index.lostSince(sinceMs);
  }

  /** Takes what the last process had in memory. To be called before the stream is read, which is newer. Never rejects. */
  async restore(): Promise<void> {
    const path = this.#file;
    if (path === null) return;
    try {
      for (const { node, batch } of await readLeftBehind(path)) {
        const isOwn = (flow: ReportedFlow): boolean => this.#isOwn(node, flow, batch.sentAtMs);
        this.#index.restore({ node, batch, storedAtMs: batch.sentAtMs, isOwn });
      }
    } catch (error) {
      this.#log.warn({ path, problem: describeError(error) }, 'cannot read what agents reported before the last stop');
    }
  }

  /** Keeps what is not stored for the next process. Errors: `STATE_WRITE`. */
  async save(): Promise<void> {
    if (this.#file !== null) await saveLeftBehind(this.#file, this.#index, this.#nowMs());
  }

  /**
   * Stores what agents had reported that were killed or have become silent, in their name, and removes what makes the stream
   * too full. The owner calls it from time to time; what failed is tried again at the next call.
   */
  async storeLeftBehind(): Promise<void> {
    const bus = this.#bus;
    // What was not read yet may contain it.
    if (bus?.status !== 'connected' || !this.isCurrent) return;
    this.#trim();
    const isOut = (node: NodeName): boolean => this.#wasOut(node, this.#nowMs());
    await storeLeftBehind({ bus, index: this.#index, nowMs: this.#nowMs, isOut });
    // Until then, a process that is killed would lose it.
    if (this.#file !== null && !this.#index.hasRestored) await dropLeftBehind(this.#file);
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
          // Nothing may erase what others stored, also while no controller reads. Agents keep what is refused and add it up.
          whenFull: 'refuse new',
          maxMessageBytes: maxFlowMessageBytes,
        }),
      onMessage: (message) => this.#take(message),
      // A stream that is full takes no message after which it could be trimmed.
      onCurrent: () => this.#trim(),
      onProblem: (error) => this.#report(error),
      signal,
    });
    await this.#follow.closed;
  }

  /** Takes the node from the subject, which proves it. */
  #take({ subject, bytes, sizeBytes, storedAtMs, sequence }: StoredMessage): void {
    const proved = parseSubject(subject);
    if (proved?.verb !== 'flows') return this.#onBatch('bad');
    const { node } = proved;
    const isNext = this.#shares.add(node, { sequence, sizeBytes, storedAtMs });
    // What was to be removed has gone, or has other sequences.
    if (!isNext) this.#excess.length = 0;
    this.#trim();
    // By the time of the store, so that it is the same when the stream is read again.
    if (!this.#rates.take(node, storedAtMs)) {
      this.#suspect(node, 'it stores more batches than an agent does');
      return this.#onBatch('limited');
    }
    // Where the operator runs NATS, a node that was removed can store batches until its credential ends.
    if (this.#wasOut(node, storedAtMs)) return this.#onBatch('removed');
    let batch: FlowBatch;
    try {
      batch = decodeFlowBatch(bytes);
    } catch (error) {
      this.#suspect(node, describeError(error));
      return this.#onBatch('bad');
    }
    const isOwn = (flow: ReportedFlow): boolean => this.#isOwn(node, flow, storedAtMs);
    const outcome = this.#index.add({ node, batch, storedAtMs, isOwn });
    if (outcome === 'foreign') this.#suspect(node, foreignFlows);
    this.#onBatch(outcome);
  }

  /** Removes the oldest records of the node that uses most, before the store takes no more of any node. */
  #trim(): void {
    const bus = this.#bus;
    // Before the whole stream was read, it is not known who uses most.
    if (bus === null || !this.isCurrent || this.#trimming !== null) return;
    if (this.#shares.isTooFull) {
      this.#shares.forget(this.#nowMs() - this.#retentionMs);
      this.#excess.push(...this.#shares.takeExcess());
    }
    if (this.#excess.length === 0) return;
    this.#trimming = this.#removeExcess(bus)
      .catch((error: unknown) => this.#report(error))
      .finally(() => (this.#trimming = null));
  }

  /** What could not be removed is tried again when the next message comes, and from time to time. */
  async #removeExcess(bus: Bus): Promise<void> {
    for (let excess = this.#excess[0]; excess !== undefined; excess = this.#excess[0]) {
      const { node, upTo } = excess;
      await bus.removeStored({ stream: flowStream, subject: subjectFor('flows', node), upToSequence: upTo });
      this.#log.info(
        { node },
        'the stream of flow records is nearly full: removed the oldest of the node that has most',
      );
      this.#excess.shift();
    }
  }

  #everyMs(nowMs: number): number {
    if (nowMs - this.#agents.countedMs >= countEveryMs) {
      this.#agents = { count: this.#index.heardWithin(2 * recentEveryMs.slowest), countedMs: nowMs };
    }
    const wantedMs = nowMs - this.#askedMs < followedForMs ? recentEveryMs.least : recentEveryMs.most;
    return Math.min(recentEveryMs.slowest, Math.max(wantedMs, this.#agents.count * msPerReport));
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
