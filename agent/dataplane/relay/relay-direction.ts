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
    },
  ) {
    this.side = init.side;
    this.from = init.from;
    this.to = init.to;
    this.workloads = init.workloads;
    this.#connection = init.connection;
    this.#backpressure = init.backpressure;
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
    this.#connection.gone(this.side);
  }

  /** The receiver has taken what waited. */
  taken(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    this.#backpressure.delete(this);
    const { bounds } = this.to;
    const isLate = performance.now() - this.#pausedAtMs > lateMs;
    this.#takenInTimeBytes = isLate ? 0 : this.#takenInTimeBytes + this.#boundBytes;
    this.#boundBytes = this.#takenInTimeBytes < provenBytes ? bounds.unprovenBytes : bounds.usualBytes;
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
