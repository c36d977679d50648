import { longestTimerMs } from '../../thread/scheduler.js';
import type { BackpressureTracker, Direction } from './backpressure-tracker.js';
import type { Side } from './relay-outcome.js';
import type { Breakage, PeerOwner, RelayPeer } from './relay-peer.js';

/** Later than this a receiver has not taken its bytes in time. */
const lateMs = 100;
/** A receiver that took these in time is proven, until it is late. */
const provenBytes = 4_194_304;

/** The connection, to which both of its directions tell what happens. */
export interface RelayedConnection {
  moved(side: Side, count: number): void;
  ended(side: Side): void;
  broke(side: Side, breakage: Breakage): void;
  gone(side: Side): void;
}

/** Says for how long nothing more is to be read of a sender whose bytes were read, in milliseconds. */
export interface ByteThrottle {
  spend(bytes: number): number;
}

/**
 * Moves the bytes of one direction, and tells the connection what its sender does. Does not use `pipe()`, which loses RSTs and
 * allocates state for every chunk.
 */
export class RelayDirection implements PeerOwner, Direction {
  readonly side: Side;
  readonly from: RelayPeer;
  readonly to: RelayPeer;
  readonly workloads: readonly { readonly slot: number }[];
  readonly #connection: RelayedConnection;
  readonly #backpressure: BackpressureTracker;
  readonly #throttle: ByteThrottle | null;
  #heldUntilMs = 0;
  #heldTimer: NodeJS.Timeout | null = null;
  #back: RelayDirection | null = null;
  #boundBytes: number;
  #isPaused = false;
  #pausedAtMs = 0;
  /** Since the connection began, or since the receiver was last late. */
  #takenInTimeBytes: number;

  constructor(
    init: Direction & {
      /** Of which the bytes come. */
      readonly side: Side;
      readonly connection: RelayedConnection;
      readonly backpressure: BackpressureTracker;
      /** Null: bytes go as fast as they come. */
      readonly throttle: ByteThrottle | null;
    },
  ) {
    this.side = init.side;
    this.from = init.from;
    this.to = init.to;
    this.workloads = init.workloads;
    this.#connection = init.connection;
    this.#backpressure = init.backpressure;
    this.#throttle = init.throttle;
    const { usualBytes, unprovenBytes, beginsUnproven } = init.to.bounds;
    this.#boundBytes = beginsUnproven ? unprovenBytes : usualBytes;
    this.#takenInTimeBytes = beginsUnproven ? 0 : provenBytes;
  }

  /** Begins, with the direction that comes back. */
  open(back: RelayDirection): void {
    this.#back = back;
    this.from.open(this);
  }

  onBytes(bytes: Buffer): void {
    this.#connection.moved(this.side, bytes.length);
    if (this.to.send(bytes) >= this.#boundBytes) this.#pause();
    if (this.#throttle !== null) this.#hold(this.#throttle.spend(bytes.length));
  }

  /** The sender is the receiver of the other direction. */
  onDrained(): void {
    this.#back?.taken();
  }

  onEnd(): void {
    this.#connection.ended(this.side);
  }

  onBroken(breakage: Breakage): void {
    this.#connection.broke(this.side, breakage);
  }

  onGone(): void {
    if (this.#heldTimer !== null) clearTimeout(this.#heldTimer);
    this.#heldTimer = null;
    this.#connection.gone(this.side);
  }

  /** The receiver has taken what waited. */
  taken(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    if (this.#heldTimer === null) this.#backpressure.delete(this);
    const { bounds } = this.to;
    const isLate = performance.now() - this.#pausedAtMs > lateMs;
    this.#takenInTimeBytes = isLate ? 0 : this.#takenInTimeBytes + this.#boundBytes;
    this.#boundBytes = this.#takenInTimeBytes < provenBytes ? bounds.unprovenBytes : bounds.usualBytes;
    if (this.#heldTimer === null) this.from.resume();
  }

  /** What was read before the pause is in the sum, so the sender waits for all of it. */
  #hold(waitMs: number): void {
    if (waitMs === 0) return;
    this.#heldUntilMs = performance.now() + waitMs;
    if (this.#heldTimer !== null) return;
    // What a tunnel brings until its window is full waits here.
    this.#backpressure.add(this);
    this.from.pause();
    this.#holdOn();
  }

  #holdOn(): void {
    const leftMs = Math.ceil(this.#heldUntilMs - performance.now());
    this.#heldTimer = setTimeout(() => this.#letGo(), Math.min(Math.max(1, leftMs), longestTimerMs));
  }

  #letGo(): void {
    // A timer may end up to two milliseconds early.
    if (this.#heldUntilMs - performance.now() > 2) {
      this.#holdOn();
      return;
    }
    this.#heldTimer = null;
    if (this.#isPaused) return;
    this.#backpressure.delete(this);
    this.from.resume();
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#pausedAtMs = performance.now();
    this.#backpressure.add(this);
    this.from.pause();
  }
}
