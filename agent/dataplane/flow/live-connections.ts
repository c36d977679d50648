import { setImmediate } from 'node:timers/promises';
import { formatHostPort } from '../../../shared/address.js';
import type { ConnectionParty } from '../report/closed-connection.js';
import type { ConnectionCut } from '../connection/connection-cut.js';
import type { ConnectionDump } from '../messages.js';
import type { WorkerState } from '../state/worker-state.js';
import type { WorkloadUsage } from '../workload-usage.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { GraceKind } from './grace-period.js';
import type { TrackedConnection } from './tracked-connection.js';

/** For so long connections are judged before bytes get their turn again, and so many between looks at the time. */
const sliceMs = 4;
const connectionsPerLook = 16;

/** Of one workload, over all workers. */
export type WorkloadLimits = {
  readonly maxConnectionsPerWorkload: number;
  /** Bytes that were received from one end and not taken yet by the other. */
  readonly maxWaitingBytesPerWorkload: number;
};

/**
 * Every connection of this worker between accept and record. Holds them to the limits of their workload, and judges all
 * of them anew when rules, registry, certificates or workloads change.
 */
export class LiveConnections {
  readonly #open = new Set<TrackedConnection>();
  #hasCarried = false;
  readonly #state: WorkerState;
  readonly #usage: WorkloadUsage;
  readonly #workerIndex: number;
  readonly #limits: WorkloadLimits;
  readonly #onEmpty = new Set<() => void>();
  readonly #inGrace: Record<GraceKind, number> = { draining: 0, kept: 0 };
  #running: Promise<void> | null = null;
  #next: Promise<void> | null = null;

  constructor(init: {
    readonly state: WorkerState;
    readonly usage: WorkloadUsage;
    readonly workerIndex: number;
    readonly limits: WorkloadLimits;
  }) {
    this.#state = init.state;
    this.#usage = init.usage;
    this.#workerIndex = init.workerIndex;
    this.#limits = init.limits;
  }

  get size(): number {
    return this.#open.size;
  }

  /** There was one since the start. */
  get hasCarried(): boolean {
    return this.#hasCarried;
  }

  /** How many live on though the rules deny them, by why. */
  get inGrace(): Readonly<Record<GraceKind, number>> {
    return this.#inGrace;
  }

  [Symbol.iterator](): IterableIterator<TrackedConnection> {
    return this.#open.values();
  }

  add(connection: TrackedConnection): void {
    this.#hasCarried = true;
    this.#open.add(connection);
    for (const { slot } of connection.workloads) this.#usage.addConnections(this.#workerIndex, slot, 1);
  }

  /** The local path has a second workload of this node: it counts there too. */
  join(connection: TrackedConnection, workload: HostedWorkload): void {
    connection.workloads.push(workload);
    this.#usage.addConnections(this.#workerIndex, workload.slot, 1);
  }

  /** Undoes a {@link join} whose connect failed. */
  leave(connection: TrackedConnection, workload: HostedWorkload): void {
    const at = connection.workloads.indexOf(workload);
    if (at < 0) return;
    connection.workloads.splice(at, 1);
    this.#usage.addConnections(this.#workerIndex, workload.slot, -1);
  }

  /** It has ended, and only its record is still open: it no longer counts for the limit. */
  release(connection: TrackedConnection): void {
    for (const { slot } of connection.workloads.splice(0)) this.#usage.addConnections(this.#workerIndex, slot, -1);
  }

  remove(connection: TrackedConnection): void {
    if (!this.#open.delete(connection)) return;
    this.#judge(connection, () => connection.liftReprieve());
    this.release(connection);
    if (this.#open.size > 0) return;
    for (const resolve of this.#onEmpty) resolve();
    this.#onEmpty.clear();
  }

  /** Which limit the workload is above, with the connections that it has now; null: none. */
  limitPassed({ name, slot }: HostedWorkload): string | null {
    const { maxConnectionsPerWorkload, maxWaitingBytesPerWorkload } = this.#limits;
    if (this.#usage.connections(slot) > maxConnectionsPerWorkload) {
      return `limit ${maxConnectionsPerWorkload} of ${name}`;
    }
    const waitingBytes = this.#usage.waitingBytes(slot);
    if (waitingBytes <= maxWaitingBytesPerWorkload) return null;
    return `${waitingBytes} bytes wait in the connections of ${name}, limit ${maxWaitingBytesPerWorkload}`;
  }

  /** Resolves when every connection has been judged by a state that is at least as new as the one at the call. */
  async recheckAll(): Promise<void> {
    if (this.#running === null) {
      this.#running = this.#pass().finally(() => (this.#running = null));
      return await this.#running;
    }
    // Whoever comes while a pass runs shares the one after it.
    this.#next ??= this.#running.then(() => {
      this.#next = null;
      return this.recheckAll();
    });
    await this.#next;
  }

  async #pass(): Promise<void> {
    let checked = 0;
    let sliceEndsMs = performance.now() + sliceMs;
    // Connections that come meanwhile have been decided by the new state.
    for (const connection of this.#open) {
      this.#judge(connection, () => connection.recheck(this.#state));
      if (++checked % connectionsPerLook !== 0 || performance.now() < sliceEndsMs) continue;
      await setImmediate();
      sliceEndsMs = performance.now() + sliceMs;
    }
  }

  /** Keeps the counts of connections in grace right, whatever the new decision. */
  #judge(connection: TrackedConnection, judge: () => void): void {
    const before = connection.grace.kind;
    judge();
    const after = connection.grace.kind;
    if (before === after) return;
    if (before !== null) this.#inGrace[before]--;
    if (after !== null) this.#inGrace[after]++;
  }

  cutWorkload(workload: HostedWorkload, cut: ConnectionCut): void {
    for (const connection of this.#open) if (connection.workloads.includes(workload)) connection.cut(cut);
  }

  cutAll(cut: ConnectionCut): void {
    for (const connection of this.#open) connection.cut(cut);
  }

  /** Resolves when no connection is open. */
  async whenEmpty(): Promise<void> {
    if (this.#open.size > 0) await new Promise<void>((resolve) => this.#onEmpty.add(resolve));
  }

  dump(): ConnectionDump[] {
    return [...this.#open].map(({ record, grace }) => ({
      traceId: record.traceId,
      direction: record.direction,
      path: record.path,
      source: describeParty(record.source),
      destination: describeParty(record.destination),
      rule: record.rule,
      ...(grace.kind === null ? {} : { grace: { kind: grace.kind, deniedBy: grace.rule } }),
      bytesSent: record.bytesSent,
      bytesReceived: record.bytesReceived,
      startedAtMs: record.startedAtMs,
    }));
  }
}

function describeParty(end: ConnectionParty): string {
  const address = end.address === null ? 'unknown' : formatHostPort(end.address);
  return end.workload === null ? address : `${end.workload} (${address})`;
}
