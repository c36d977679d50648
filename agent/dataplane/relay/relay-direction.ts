import { longestTimerMs } from '../../thread/scheduler.js';
import type { BackpressureTracker, Direction } from './backpressure-tracker.js';
import type { Side } from './relay-outcome.js';
import type { Breakage, OutputBounds, PeerOwner, RelayPeer } from './relay-peer.js';

/** Later than this a receiver has not taken its bytes in time. */
const lateMs = 100;
/** A receiver that took these in time is proven, until it is late. */
const provenBytes = 4_194_304;

/** The connection, to which both of its directions tell what happens. */
export interface RelayedConnection {
  moved(side: Side, count: number): void;
  ended(side: Side): void;
  /** `heldBytes`: of this side, which never go on. */
  broke(side: Side, breakage: Breakage, heldBytes: number): void;
  gone(side: Side): void;
}

/** Says for how long bytes that were read are to wait before they go on, in milliseconds. */
export interface ByteThrottle {
  spend(bytes: number): number;
  /** They did not go on. */
  giveBack(bytes: number): void;
}

/** Gets a copy of the bytes, without a say in how they go. */
export interface ByteCopy {
  /** Lent: the memory is the owner's until it returns. */
  offer(bytes: Buffer): void;
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
  readonly #copy: ByteCopy | null;
  readonly #bounds: OutputBounds;
  /** What its throttle lets go on later; null: nothing. */
  #held: Held | null = null;
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
      /** What may wait for `to` before `from` is paused. Absent: what `to` says. */
      readonly bounds?: OutputBounds | undefined;
      /** Null: bytes go as fast as they come. */
      readonly throttle: ByteThrottle | null;
      /** Null: there is none. */
      readonly copy: ByteCopy | null;
    },
  ) {
    this.side = init.side;
    this.from = init.from;
    this.to = init.to;
    this.workloads = init.workloads;
    this.#connection = init.connection;
    this.#backpressure = init.backpressure;
    this.#throttle = init.throttle;
    this.#copy = init.copy;
    this.#bounds = init.bounds ?? init.to.bounds;
    const { usualBytes, unprovenBytes, beginsUnproven } = this.#bounds;
    this.#boundBytes = beginsUnproven ? unprovenBytes : usualBytes;
    this.#takenInTimeBytes = beginsUnproven ? 0 : provenBytes;
  }

  /** Begins, with the direction that comes back. */
  open(back: RelayDirection): void {
    this.#back = back;
    this.from.open(this);
  }

  get heldBytes(): number {
    return this.#held?.bytes.length ?? 0;
  }

  onBytes(bytes: Buffer): void {
    this.#connection.moved(this.side, bytes.length);
    if (this.#throttle === null) this.#send(bytes);
    else this.#sendInTime(bytes, this.#throttle.spend(bytes.length));
  }

  /** The sender is the receiver of the other direction. */
  onDrained(): void {
    this.#back?.taken();
  }

  onEnd(): void {
    if (this.#held === null) this.#connection.ended(this.side);
    else this.#held.isLast = true;
  }

  onBroken(breakage: Breakage): void {
    this.#connection.broke(this.side, breakage, this.heldBytes);
  }

  onGone(): void {
    // A side that has ended in order may be gone while its last bytes are held.
    if (this.#held?.isLast === false) this.#dropHeld();
    if (this.#back !== null) this.#back.#dropHeld();
    this.#connection.gone(this.side);
  }

  /** The receiver has taken what waited. */
  taken(): void {
    if (!this.#isPaused) return;
    this.#isPaused = false;
    if (this.#held === null) this.#backpressure.delete(this);
    const bounds = this.#bounds;
    const isLate = performance.now() - this.#pausedAtMs > lateMs;
    this.#takenInTimeBytes = isLate ? 0 : this.#takenInTimeBytes + this.#boundBytes;
    this.#boundBytes = this.#takenInTimeBytes < provenBytes ? bounds.unprovenBytes : bounds.usualBytes;
    if (this.#held === null) this.from.resume();
  }

  #send(bytes: Buffer): void {
    if (this.to.send(bytes) >= this.#boundBytes) this.#pause();
    if (this.#copy !== null) this.#copy.offer(bytes);
  }

  /**
   * What is ahead of the rate waits here, and nothing more is read. It must not go on first and be paid for later: many
   * connections that are opened at once, or that waited for the same time, would each send their first bytes together.
   */
  #sendInTime(bytes: Buffer, waitMs: number): void {
    const held = this.#held;
    if (held === null && waitMs === 0) {
      this.#send(bytes);
      return;
    }
    // What was read before the pause is in the sum, so all of it waits for the last.
    const untilMs = Math.max(held?.untilMs ?? 0, performance.now() + waitMs);
    if (held !== null) {
      held.untilMs = untilMs;
      held.bytes = Buffer.concat([held.bytes, bytes]);
      return;
    }
    this.#held = { bytes: Buffer.from(bytes), untilMs, isLast: false, timer: this.#timer(untilMs) };
    this.#backpressure.add(this);
    this.from.pause();
  }

  #timer(untilMs: number): NodeJS.Timeout {
    const leftMs = Math.ceil(untilMs - performance.now());
    return setTimeout(() => this.#letGo(), Math.min(Math.max(1, leftMs), longestTimerMs));
  }

  #letGo(): void {
    const held = this.#held;
    if (held === null) return;
    // A timer may end up to two milliseconds early.
    if (held.untilMs - performance.now() > 2) {
      held.timer = this.#timer(held.untilMs);
      return;
    }
    // It has been reset, and is gone soon.
    if (this.to.breakage !== null) {
      this.#dropHeld();
      return;
    }
    this.#held = null;
    if (!this.#isPaused) this.#backpressure.delete(this);
    this.#send(held.bytes);
    if (held.isLast) this.#connection.ended(this.side);
    else if (!this.#isPaused) this.from.resume();
  }

  /** Others must not wait for what never goes on: a client that sends and resets would spend what is theirs. */
  #dropHeld(): void {
    if (this.#held === null) return;
    clearTimeout(this.#held.timer);
    this.#throttle?.giveBack(this.#held.bytes.length);
    this.#held = null;
  }

  #pause(): void {
    if (this.#isPaused) return;
    this.#isPaused = true;
    this.#pausedAtMs = performance.now();
    this.#backpressure.add(this);
    this.from.pause();
  }
}

/** `isLast`: the sender has closed its direction behind them. */
type Held = { bytes: Buffer; untilMs: number; isLast: boolean; timer: NodeJS.Timeout };
