import { CulvertError } from '../../../shared/errors.js';
import { TimeSlices } from '../../thread/time-slices.js';
import { ConnectionCare } from './connection-care.js';
import type { LiveConnections } from './live-connections.js';
import type { TrackedConnection } from './tracked-connection.js';

const roundMs = 5000;
/** A connection is looked at in its first round, in the first one without a byte, and then in one of this many. */
const roundsBetweenLooks = 4;
/** For connections whose application probes every few seconds. */
const hurriedMs = 1000;

/**
 * Looks after open connections in what only the kernel knows and does not report by itself:
 *
 * - another timeout of connection tracking, or a direction that was closed: probes follow it;
 * - an entry of connection tracking that went: the connection ends as CAPTURE_LOST;
 * - a side that broke while it is not read: the connection ends like any other;
 * - an application that probes its connection: its probes reach to the far side (`application-keepalive.ts`).
 *
 * Bytes that move are proof enough, so after its first round a connection costs system calls only while it is silent.
 */
export class ConnectionWatch {
  readonly #connections: LiveConnections;
  readonly #refreshProbing: () => Iterable<boolean>;
  readonly #hurried = new Set<TrackedConnection>();
  #timer: NodeJS.Timeout | null;
  #hurriedTimer: NodeJS.Timeout | null = null;
  #isStopped = false;

  /** `refreshProbing`: for each workload, whether its connections must be probed in another way from now on. */
  constructor(init: { readonly connections: LiveConnections; readonly refreshProbing: () => Iterable<boolean> }) {
    this.#connections = init.connections;
    this.#refreshProbing = init.refreshProbing;
    this.#timer = setTimeout(() => void this.#round(), roundMs);
  }

  stop(): void {
    this.#isStopped = true;
    for (const timer of [this.#timer, this.#hurriedTimer]) if (timer !== null) clearTimeout(timer);
    this.#timer = null;
  }

  async #round(): Promise<void> {
    const slices = new TimeSlices();
    let isChanged = false;
    for (const isAnother of this.#refreshProbing()) {
      isChanged ||= isAnother;
      if (slices.isOver) await slices.pause();
    }
    for (const connection of this.#connections) {
      this.#lookAfter(connection, isChanged);
      if (slices.isOver) await slices.pause();
    }
    this.#timer?.refresh();
  }

  #lookAfter(connection: TrackedConnection, isChanged: boolean): void {
    if (connection.ends === null) return;
    const care = (connection.care ??= new ConnectionCare(connection, connection.ends));
    if (connection.isDueForLook(roundsBetweenLooks)) unlessClosed(() => care.look());
    // Only now: a probe that no entry translates is answered at once, and the application's socket would not be known.
    if (isChanged) unlessClosed(() => care.probeAgain());
    unlessClosed(() => care.update());
    if (care.isHurried) this.#hurry(connection);
  }

  #hurry(connection: TrackedConnection): void {
    this.#hurried.add(connection);
    if (!this.#isStopped) this.#hurriedTimer ??= setTimeout(() => void this.#hurriedRound(), hurriedMs);
  }

  async #hurriedRound(): Promise<void> {
    const slices = new TimeSlices();
    for (const connection of this.#hurried) {
      if (this.#connections.has(connection)) unlessClosed(() => connection.care?.update());
      else this.#hurried.delete(connection);
      if (slices.isOver) await slices.pause();
    }
    if (this.#hurried.size > 0) this.#hurriedTimer?.refresh();
    else this.#hurriedTimer = null;
  }
}

function unlessClosed(step: () => void): void {
  try {
    step();
  } catch (error) {
    // The kernel does not answer: a socket closes in this turn, or its workload leaves.
    if (!(error instanceof CulvertError)) throw error;
  }
}
