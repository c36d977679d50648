import { longestTimerMs } from '../../thread/scheduler.js';
import type { Reason } from '../../../shared/reasons.js';
import type { ConnectionCut, TerminationSignal } from '../connection/termination-signal.js';
import type { BackpressureTracker } from './backpressure-tracker.js';
import { RelayDirection, type ByteThrottle, type RelayedConnection } from './relay-direction.js';
import { CrossingEnds } from './crossing-ends.js';
import type { RelayCounters, RelayOutcome, Side } from './relay-outcome.js';
import type { Breakage, OutputBounds, RelayPeer } from './relay-peer.js';
import type { ShadowFeed } from './shadow-feed.js';

export type { RelayCounters, RelayOutcome } from './relay-outcome.js';
export type { RelayPeer } from './relay-peer.js';

export type RelayOptions = {
  /**
   * The side that opened the connection. Both sides belong to the relay from the call on, and are closed when it has
   * ended. A socket must have TCP_NODELAY.
   */
  readonly source: RelayPeer;
  readonly destination: RelayPeer;
  readonly counters: RelayCounters;
  /** How long one direction may stay open after the other was closed; 0: without limit. */
  readonly halfCloseTimeoutMs: number;
  /**
   * Longest time without a byte in either direction, and without one that waits for a rate; 0: without limit. Detected up to a
   * quarter of it later.
   */
  readonly idleTimeoutMs: number;
  /** Counted from the call; 0: without limit. */
  readonly maxDurationMs: number;
  /** When it is raised, both sides are reset at once. */
  readonly signal: TerminationSignal;
  /** This node's workloads at the two sides, at this moment. The array is the caller's. */
  readonly workloads: readonly { readonly slot: number }[];
  readonly backpressure: BackpressureTracker;
  /** What bounds the bytes of each side; null: nothing does. */
  readonly throttles: { readonly source: ByteThrottle; readonly destination: ByteThrottle } | null;
  /** What may wait for the destination before the source is paused. Absent: what the destination says. */
  readonly bounds?: OutputBounds | undefined;
  /** Gets a copy of what the source sends, and its end or its breakage; null: there is none. */
  readonly shadow: ShadowFeed | null;
};

/**
 * Moves bytes both ways until both directions are closed, one side is reset, or a limit or the signal ends the
 * connection. Then calls `onEnd`, once. Does not return a promise, because whatever awaits one stays in memory while
 * the connection is open.
 */
export function relay(init: RelayOptions, onEnd: (outcome: RelayOutcome) => void): void {
  new Relay(init, onEnd).start();
}

/** Most connections have no time limit. */
const noTimers: NodeJS.Timeout[] = [];
/** How often an idle timeout is looked at, at most. */
const shortestLookMs = 50;

class Relay implements RelayedConnection {
  readonly #init: RelayOptions;
  readonly #onEnd: (outcome: RelayOutcome) => void;
  #timers: NodeJS.Timeout[] = noTimers;
  readonly #onCut: () => void;
  #outcome: RelayOutcome | null = null;
  readonly #ends: CrossingEnds;
  #openEnds = 2;

  constructor(init: RelayOptions, onEnd: (outcome: RelayOutcome) => void) {
    this.#init = init;
    this.#onEnd = onEnd;
    this.#ends = new CrossingEnds({ between: init, onSettled: (outcome) => this.#end(outcome) });
    this.#onCut = () => {
      const { cut } = init.signal;
      if (cut !== null) this.#cut(cut);
    };
  }

  start(): void {
    const { source, destination, signal, workloads, backpressure, throttles, bounds, shadow } = this.#init;
    const common = { connection: this, workloads, backpressure };
    const there = new RelayDirection({
      side: 'source',
      from: source,
      to: destination,
      bounds,
      throttle: throttles?.source ?? null,
      copy: shadow,
      ...common,
    });
    const back = new RelayDirection({
      side: 'destination',
      from: destination,
      to: source,
      throttle: throttles?.destination ?? null,
      copy: null,
      ...common,
    });
    this.#open(there, back);
    this.#open(back, there);
    if (this.#outcome === null) {
      source.resume();
      destination.resume();
      this.#startTimers([there, back]);
    }
    if (signal.cut === null) signal.onCut(this.#onCut);
    else this.#cut(signal.cut);
    this.#finishIfClosed();
  }

  moved(side: Side, count: number): void {
    const { counters } = this.#init;
    if (side === 'source') {
      counters.bytesSent += count;
      return;
    }
    counters.firstByteAtMs ??= Date.now();
    counters.bytesReceived += count;
    this.#ends.answered();
  }

  ended(side: Side): void {
    if (this.#outcome !== null) return;
    const other = side === 'source' ? this.#init.destination : this.#init.source;
    other.flush();
    if (this.#ends.first === null) {
      this.#limit(this.#init.halfCloseTimeoutMs, 'IDLE_TIMEOUT', 'half-closed for the configured time');
    }
    this.#ends.ended(side);
    other.end();
    if (side === 'source') this.#init.shadow?.offerEnd();
  }

  /** Ends the relay: the other application then gets the RST that this one sent. */
  broke(side: Side, breakage: Breakage, heldBytes: number): void {
    if (this.#outcome === null) this.#ends.broke(side, breakage, heldBytes);
  }

  gone(): void {
    this.#openEnds -= 1;
    this.#finishIfClosed();
  }

  #open(direction: RelayDirection, back: RelayDirection): void {
    const { side, from } = direction;
    if (from.isGone) this.#openEnds -= 1;
    else direction.open(back);
    const { breakage } = from;
    if (breakage !== null) this.broke(side, breakage, 0);
  }

  #cut(cut: ConnectionCut): void {
    this.#ends.giveUp();
    const endedBy = cut.reason === 'CLIENT_RESET' ? 'source' : 'agent';
    this.#end({ reason: cut.reason, endedBy, rule: cut.rule, detail: cut.detail });
  }

  /** The first outcome counts. What our own resets cause afterwards is ignored. */
  #end(outcome: RelayOutcome): void {
    if (this.#outcome !== null) return;
    this.#outcome = outcome;
    this.#stopTimers();
    this.#init.source.reset();
    this.#init.destination.reset();
  }

  #finishIfClosed(): void {
    if (this.#openEnds !== 0) return;
    // Once only, however often this is called.
    this.#openEnds = -1;
    this.#stopTimers();
    this.#init.signal.offCut(this.#onCut);
    this.#init.shadow?.copiedEnded(this.#outcome?.reason ?? null);
    this.#onEnd(this.#outcome ?? { reason: 'OK', endedBy: this.#ends.first ?? 'agent', rule: null, detail: '' });
  }

  #startTimers(directions: readonly RelayDirection[]): void {
    const { maxDurationMs, idleTimeoutMs, counters } = this.#init;
    this.#limit(maxDurationMs, 'MAX_DURATION', '');
    if (idleTimeoutMs === 0) return;
    let movedAtMs = performance.now();
    let bytes = counters.bytesSent + counters.bytesReceived;
    // Compared at intervals, instead of a timer that every chunk would have to restart.
    const timer = setInterval(
      () => {
        const now = counters.bytesSent + counters.bytesReceived;
        // What waits for a rate waits on our part: the connection is not idle.
        if (now !== bytes || directions.some(({ heldBytes }) => heldBytes > 0)) {
          bytes = now;
          movedAtMs = performance.now();
        } else if (performance.now() - movedAtMs >= idleTimeoutMs) {
          this.#end({ reason: 'IDLE_TIMEOUT', endedBy: 'agent', rule: null, detail: '' });
        }
      },
      Math.min(Math.max(Math.ceil(idleTimeoutMs / 4), shortestLookMs), longestTimerMs),
    );
    this.#timers = [...this.#timers, timer];
  }

  #limit(afterMs: number, reason: Reason, detail: string): void {
    if (afterMs === 0) return;
    const timer = setTimeout(
      () => this.#end({ reason, endedBy: 'agent', rule: null, detail }),
      Math.min(afterMs, longestTimerMs),
    );
    this.#timers = [...this.#timers, timer];
  }

  #stopTimers(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}
