import { isDeepStrictEqual } from 'node:util';
import type { Bucket } from '../../shared/bus/bucket.js';
import type { Log } from '../../shared/log.js';
import { heartbeatSchema, nodeName, type Heartbeat } from '../../shared/wire/requests.js';
import { z } from 'zod';
import type { NodeName } from '../../shared/routing/names.js';
import { isAhead, type MeshPosition } from './agents-ahead.js';
import type { TrustConfirmation } from '../ca/rotation-confirmations.js';

/** One agent: its last heartbeat, and what the controller observed. */
const recordSchema = z.object({
  node: nodeName,
  joinedAtMs: z.number().nullable(),
  lastSeenMs: z.number().nullable(),
  /** The agent's clock minus the controller's at receipt. A delayed message makes it too small. */
  clockSkewMs: z.number().nullable(),
  heartbeat: heartbeatSchema.nullable(),
});
type AgentRecord = z.infer<typeof recordSchema>;

export const agentStates = ['ready', 'pending', 'behind', 'ahead', 'stale', 'stopped', 'joined'] as const;
/**
 * `ready`: enforces the current revision. `behind`: enforces an older one. `ahead`: has rules or a registry that this controller
 * has not made, see agents-ahead.ts. `pending`: waits for something. `stale`: has sent no heartbeat for too long. `stopped`:
 * said that it stops, and nothing since. `joined`: has sent no heartbeat since it joined.
 */
export type AgentState = (typeof agentStates)[number];

export type AgentStatus = AgentRecord & {
  readonly state: AgentState;
  /** How many revisions it is behind; null when it has not reported one. */
  readonly revisionLag: number | null;
  readonly isClockWrong: boolean;
  /** Earliest expiry of its workloads' certificates; null when it has none. */
  readonly nextCertificateExpiryMs: number | null;
};

/** How often an unchanged heartbeat is stored: often enough for a restart, and few writes for a thousand agents. */
const storeEveryMs = 15_000;
/** Beyond it the agent with the oldest heartbeat is dropped. */
const maxAgents = 20_000;

/**
 * The agents of the mesh, by the newest heartbeat of each node. Held in memory, and in the bucket `culvert_status` so that
 * it survives a restart of the controller.
 */
export class AgentRegistry {
  readonly #log: Log;
  readonly #nowMs: () => number;
  readonly #staleAfterMs: number;
  readonly #clockSkewWarningMs: number;
  readonly #forgetAfterMs: number;
  readonly #isRemoved: (node: NodeName) => boolean;
  readonly #records = new Map<NodeName, AgentRecord>();
  readonly #storedAtMs = new Map<NodeName, number>();
  #bucket: Bucket | undefined;
  #trustVersion = 0;

  constructor(init: {
    readonly log: Log;
    readonly nowMs: () => number;
    readonly staleAfterMs: number;
    readonly clockSkewWarningMs: number;
    /** A silent agent is forgotten after this time: its credential has expired, so it is no longer a member. */
    readonly forgetAfterMs: number;
    /** Whether the node was removed and has not joined again; default: none was. */
    readonly isRemoved?: (node: NodeName) => boolean;
  }) {
    this.#log = init.log;
    this.#nowMs = init.nowMs;
    this.#staleAfterMs = init.staleAfterMs;
    this.#clockSkewWarningMs = init.clockSkewWarningMs;
    this.#forgetAfterMs = init.forgetAfterMs;
    this.#isRemoved = init.isRemoved ?? ((): boolean => false);
  }

  /** Loads the stored records, without replacing heartbeats that arrived since. Errors as in `Bus`. */
  async attach(bucket: Bucket): Promise<void> {
    for (const entry of await bucket.entries()) {
      const record = decodeRecord(entry.value);
      if (record === undefined || this.#records.has(record.node)) continue;
      if (this.#isRemoved(record.node)) await bucket.delete(record.node);
      else this.#records.set(record.node, record);
    }
    this.#bucket = bucket;
    this.#trustVersion += 1;
  }

  /** Rises whenever {@link confirmations} may differ in more than the time; 0: the stored records were not read yet. */
  get trustVersion(): number {
    return this.#bucket === undefined ? 0 : this.#trustVersion;
  }

  /** What the agent of a node said last; null: nothing. */
  heartbeatOf(node: NodeName): Heartbeat | null {
    return this.#records.get(node)?.heartbeat ?? null;
  }

  /** Every node, and what it said last of the roots it trusts and proves itself with. */
  confirmations(): TrustConfirmation[] {
    return [...this.#records.values()]
      .map(({ node, heartbeat, lastSeenMs }) => ({ node, trust: heartbeat?.trust ?? null, lastSeenMs }))
      .sort((a, b) => a.node.localeCompare(b.node));
  }

  /** `node` comes from the message's subject, which proves it. */
  receive(node: NodeName, heartbeat: Heartbeat): void {
    const now = this.#nowMs();
    const before = this.#records.get(node);
    const clockSkewMs = heartbeat.nowMs - now;
    this.#keep({ node, joinedAtMs: before?.joinedAtMs ?? null, lastSeenMs: now, clockSkewMs, heartbeat });
    if (!isDeepStrictEqual(before?.heartbeat?.trust, heartbeat.trust) || before === undefined) this.#trustVersion += 1;
    const isNews =
      before?.heartbeat?.appliedRevision !== heartbeat.appliedRevision ||
      before.heartbeat.startedAtMs !== heartbeat.startedAtMs ||
      before.heartbeat.isLast !== heartbeat.isLast;
    if (this.#isClockWrong(clockSkewMs) && !this.#isClockWrong(before?.clockSkewMs ?? 0)) {
      this.#log.warn({ node, clockSkewMs }, "the clock of an agent differs from the controller's");
    }
    if (isNews || now - (this.#storedAtMs.get(node) ?? 0) >= storeEveryMs) this.#store(node, now);
  }

  noteJoined(node: NodeName): void {
    // It was removed while its join was under way.
    if (this.#isRemoved(node)) return;
    const now = this.#nowMs();
    const before = this.#records.get(node);
    this.#keep({
      node,
      joinedAtMs: now,
      lastSeenMs: before?.lastSeenMs ?? null,
      clockSkewMs: before?.clockSkewMs ?? null,
      heartbeat: before?.heartbeat ?? null,
    });
    this.#trustVersion += 1;
    this.#store(node, now);
  }

  has(node: NodeName): boolean {
    return this.#records.has(node);
  }

  /** The name of every node with an agent, in no order. */
  nodes(): NodeName[] {
    return [...this.#records.keys()];
  }

  /** Drops what is known of a node. Errors as in `Bus`; the node stays away all the same, as it is no member any more. */
  async forget(node: NodeName): Promise<void> {
    this.#records.delete(node);
    this.#storedAtMs.delete(node);
    this.#trustVersion += 1;
    await this.#bucket?.delete(node);
  }

  /** Forgets agents that were silent for longer than their credentials last. The owner calls it periodically. */
  async forgetSilent(): Promise<void> {
    const before = this.#nowMs() - this.#forgetAfterMs;
    for (const { node, lastSeenMs, joinedAtMs } of this.#records.values()) {
      if (Math.max(lastSeenMs ?? 0, joinedAtMs ?? 0) >= before) continue;
      await this.forget(node);
      this.#log.info({ node }, 'forgot a node: it was silent for longer than its credential lasts');
    }
  }

  /** Every agent, sorted by name, with its state relative to the revision in force and the inventory. */
  list(newest: MeshPosition): AgentStatus[] {
    return [...this.#records.values()]
      .map((record) => this.#judge(record, newest))
      .sort((a, b) => a.node.localeCompare(b.node));
  }

  /** As {@link list}, of one node; undefined: no agent has joined for it. */
  statusOf(node: NodeName, newest: MeshPosition): AgentStatus | undefined {
    const record = this.#records.get(node);
    return record === undefined ? undefined : this.#judge(record, newest);
  }

  #judge(record: AgentRecord, newest: MeshPosition): AgentStatus {
    const { heartbeat } = record;
    const expiries = (heartbeat?.workloads ?? [])
      .map((workload) => workload.certificateNotAfterMs)
      .filter((at) => at !== null);
    const applied = heartbeat?.appliedRevision ?? null;
    return {
      ...record,
      state: this.#stateOf(record, newest),
      revisionLag: applied === null ? null : Math.max(0, newest.revision - applied),
      isClockWrong: this.#isClockWrong(record.clockSkewMs ?? 0),
      nextCertificateExpiryMs: expiries.length === 0 ? null : Math.min(...expiries),
    };
  }

  #stateOf({ heartbeat, lastSeenMs, joinedAtMs }: AgentRecord, newest: MeshPosition): AgentState {
    if (heartbeat === null || lastSeenMs === null) return 'joined';
    // What the agent before it reported last says nothing of this one.
    if (joinedAtMs !== null && joinedAtMs > lastSeenMs) return 'joined';
    if (heartbeat.isLast === true) return 'stopped';
    if (this.#nowMs() - lastSeenMs > this.#staleAfterMs) return 'stale';
    if (isAhead(heartbeat, newest)) return 'ahead';
    if (heartbeat.appliedRevision === null || heartbeat.pending.length > 0) return 'pending';
    return heartbeat.appliedRevision < newest.revision || !heartbeat.enforcedByAllWorkers ? 'behind' : 'ready';
  }

  #isClockWrong(skewMs: number): boolean {
    return Math.abs(skewMs) >= this.#clockSkewWarningMs;
  }

  #keep(record: AgentRecord): void {
    this.#records.delete(record.node);
    this.#records.set(record.node, record);
    const oldest = this.#records.keys().next().value;
    if (this.#records.size > maxAgents && oldest !== undefined) this.#records.delete(oldest);
  }

  #store(node: NodeName, now: number): void {
    const record = this.#records.get(node);
    if (this.#bucket === undefined || record === undefined) return;
    this.#storedAtMs.set(node, now);
    this.#bucket.put(node, new TextEncoder().encode(JSON.stringify(record))).catch((error: unknown) => {
      this.#storedAtMs.delete(node);
      this.#log.debug({ err: error, node }, 'could not store a heartbeat');
    });
  }
}

function decodeRecord(bytes: Uint8Array): AgentRecord | undefined {
  try {
    return recordSchema.parse(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return undefined;
  }
}
