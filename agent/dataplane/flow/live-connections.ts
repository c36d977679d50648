import { setTimeout as delay } from 'node:timers/promises';
import { longestTimerMs } from '../../thread/scheduler.js';
import { TimeSlices } from '../../thread/time-slices.js';
import type { ConnectionCut } from '../connection/termination-signal.js';
import type { WorkloadLimits } from '../limit/workload-limits.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { ConnectionDump } from '../messages.js';
import type { WorkerState } from '../state/worker-state.js';
import { dumpOf } from './connection-dump.js';
import type { GraceCounts } from './grace-period.js';
import type { TrackedConnection } from './tracked-connection.js';

const presentPollMs = 50;

/**
 * Every connection of this worker between accept and record. Counts them for the limits of their workloads, and checks all
 * of them again when rules, registry, certificates or workloads change.
 */
export class LiveConnections {
  /** Written by the connections themselves. */
  readonly inGrace: GraceCounts = { draining: 0, kept: 0 };
  readonly #open = new Set<TrackedConnection>();
  #hasCarried = false;
  readonly #state: WorkerState;
  readonly #limits: WorkloadLimits;
  readonly #onEmpty = new Set<() => void>();
  #running: Promise<void> | null = null;
  #next: Promise<void> | null = null;

  constructor(init: { readonly state: WorkerState; readonly limits: WorkloadLimits }) {
    this.#state = init.state;
    this.#limits = init.limits;
  }

  get size(): number {
    return this.#open.size;
  }

  /** There has been a connection since the start. */
  get hasCarried(): boolean {
    return this.#hasCarried;
  }

  has(connection: TrackedConnection): boolean {
    return this.#open.has(connection);
  }

  [Symbol.iterator](): IterableIterator<TrackedConnection> {
    return this.#open.values();
  }

  add(connection: TrackedConnection): void {
    this.#hasCarried = true;
    this.#open.add(connection);
    for (const workload of connection.workloads) this.#count(connection, workload, 1);
  }

  /** A connection counts for this workload too: on the local path it is the second one, and of a probe the one it found. */
  join(connection: TrackedConnection, workload: HostedWorkload): void {
    connection.workloads.push(workload);
    this.#count(connection, workload, 1);
  }

  /** Undoes a {@link join} whose connect failed. */
  leave(connection: TrackedConnection, workload: HostedWorkload): void {
    const at = connection.workloads.indexOf(workload);
    if (at < 0) return;
    connection.workloads.splice(at, 1);
    this.#count(connection, workload, -1);
  }

  /** The connection has ended and only its record is open: it no longer counts for limits, of workloads and destinations. */
  release(connection: TrackedConnection): void {
    connection.leave();
    for (const workload of connection.workloads.splice(0)) this.#count(connection, workload, -1);
  }

  /** A copy for a shadow takes no place of connections that are served. */
  #count({ record }: TrackedConnection, workload: HostedWorkload, change: 1 | -1): void {
    if (record.mirrorOf === null) this.#limits.count(workload, change);
  }

  /** False when it was removed before. */
  remove(connection: TrackedConnection): boolean {
    if (!this.#open.delete(connection)) return false;
    connection.endGrace();
    this.release(connection);
    if (this.#open.size === 0) for (const resolve of this.#onEmpty) resolve();
    return true;
  }

  /** The limit that the workload exceeds, for the record; null when it exceeds none. */
  limitPassed(workload: HostedWorkload): string | null {
    return this.#limits.exceeded(workload);
  }

  /** Resolves when every connection was checked against a state at least as new as the one at the call. */
  async recheckAll(): Promise<void> {
    if (this.#running === null) {
      this.#running = this.#pass().finally(() => (this.#running = null));
      return await this.#running;
    }
    // Calls during a pass share the next one.
    this.#next ??= this.#running.then(() => {
      this.#next = null;
      return this.recheckAll();
    });
    await this.#next;
  }

  async #pass(): Promise<void> {
    const slices = new TimeSlices();
    // Connections that begin during the pass are decided by the new state.
    for (const connection of this.#open) {
      connection.recheck(this.#state);
      if (slices.isOver) await slices.pause();
    }
  }

  cutWorkload(workload: HostedWorkload, cut: ConnectionCut): void {
    for (const connection of this.#open) if (connection.workloads.includes(workload)) connection.cut(cut);
  }

  cutAll(cut: ConnectionCut): void {
    for (const connection of this.#open) connection.cut(cut);
  }

  /** Resolves when no connection is open, or after `withinMs`. */
  async whenEmpty(withinMs: number): Promise<void> {
    if (this.#open.size === 0) return;
    await new Promise<void>((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        this.#onEmpty.delete(finish);
        resolve();
      };
      const timer = setTimeout(finish, Math.min(withinMs, longestTimerMs));
      this.#onEmpty.add(finish);
    });
  }

  /** Resolves when no connection that is open now is open any more, or after `withinMs`. Polls: a process drains once. */
  async whenPresentOnesEnded(withinMs: number): Promise<void> {
    await this.#whenNoneIs(withinMs, (connection) => this.#open.has(connection));
  }

  /** Resolves when every connection that is open now has reached its other side or was refused, or after `withinMs`. */
  async whenPresentOnesReached(withinMs: number): Promise<void> {
    await this.#whenNoneIs(withinMs, (connection) => connection.ends === null && this.#open.has(connection));
  }

  async #whenNoneIs(withinMs: number, isSo: (connection: TrackedConnection) => boolean): Promise<void> {
    const present = [...this.#open];
    const deadlineMs = performance.now() + withinMs;
    while (performance.now() < deadlineMs && present.some(isSo)) await delay(presentPollMs);
  }

  dump(): ConnectionDump[] {
    return [...this.#open].map(dumpOf);
  }
}
