import net from 'node:net';
import { longestTimerMs } from '../../thread/scheduler.js';
import type { Reason } from '../../../shared/reasons.js';
import type { ConnectionCut, TerminationSignal } from '../connection/termination-signal.js';
import type { BackpressureTracker } from './backpressure-tracker.js';
import { pumpDirection } from './relay-direction.js';
import { CrossingEnds } from './crossing-ends.js';
import type { RelayCounters, RelayOutcome, Side } from './relay-outcome.js';
import { breakageOf, endOf, isGone, resetPeer, type Breakage, type RelayPeer } from './relay-peer.js';

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
  /** Longest time without a byte in either direction; 0: without limit. Detected up to a quarter of it later. */
  readonly idleTimeoutMs: number;
  /** Counted from the call; 0: without limit. */
  readonly maxDurationMs: number;
  /** When it is raised, both sides are reset at once. */
  readonly signal: TerminationSignal;
  /** This node's workloads at the two sides, at this moment. The array is the caller's. */
  readonly workloads: readonly { readonly slot: number }[];
  readonly backpressure: BackpressureTracker;
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
const nothing = (): void => {};

class Relay {
  readonly #init: RelayOptions;
  readonly #onEnd: (outcome: RelayOutcome) => void;
  #timers: NodeJS.Timeout[] = noTimers;
  readonly #onCut: () => void;
  #outcome: RelayOutcome | null = null;
  readonly #ends: CrossingEnds;
  #openEnds = 2;
  #flushToSource = nothing;
  #flushToDestination = nothing;

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
    const { source, destination, counters, signal, workloads, backpressure } = this.#init;
    this.#prepare('source', source, destination);
    this.#prepare('destination', destination, source);
    if (this.#outcome === null) {
      this.#flushToDestination = pumpDirection({
        direction: { from: source, to: destination, workloads },
        backpressure,
        onBytes: (count) => (counters.bytesSent += count),
      });
      this.#flushToSource = pumpDirection({
        direction: { from: destination, to: source, workloads },
        backpressure,
        onBytes: (count) => {
          counters.firstByteAtMs ??= Date.now();
          counters.bytesReceived += count;
          this.#ends.answered();
        },
      });
      source.resume();
      destination.resume();
      this.#startTimers();
    }
    if (signal.cut === null) signal.onCut(this.#onCut);
    else this.#cut(signal.cut);
    this.#finishIfClosed();
  }

  #prepare(side: Side, end: RelayPeer, other: RelayPeer): void {
    if (end instanceof net.Socket) {
      // By default Node would answer the peer's FIN with its own and cut off the other direction.
      end.allowHalfOpen = true;
    }
    end.on('error', () => this.#checkBroken(side, end));
    end.on('end', () => this.#passFin(side, end, other));
    if (isGone(end)) {
      this.#openEnds -= 1;
      this.#checkBroken(side, end);
      return;
    }
    end.on('close', () => {
      this.#openEnds -= 1;
      this.#checkBroken(side, end);
      this.#finishIfClosed();
    });
    this.#checkBroken(side, end);
  }

  #passFin(side: Side, end: RelayPeer, other: RelayPeer): void {
    if (this.#outcome !== null) return;
    // A cancelled stream also reports an end. Forwarding it as FIN would make truncated data look complete.
    const { hasEnded, breakage } = endOf(end);
    if (hasEnded) {
      if (side === 'source') this.#flushToDestination();
      else this.#flushToSource();
      if (this.#ends.first === null) {
        this.#limit(this.#init.halfCloseTimeoutMs, 'IDLE_TIMEOUT', 'half-closed for the configured time');
      }
      this.#ends.ended(side);
      other.end();
    }
    if (breakage !== null) this.#broke(side, breakage);
  }

  #checkBroken(side: Side, end: RelayPeer): void {
    const breakage = breakageOf(end);
    if (breakage !== null) this.#broke(side, breakage);
  }

  /** Ends the relay: the other application then gets the RST that this one sent. */
  #broke(side: Side, breakage: Breakage): void {
    if (this.#outcome === null) this.#ends.broke(side, breakage);
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
    this.#flushToSource();
    this.#flushToDestination();
    resetPeer(this.#init.source);
    resetPeer(this.#init.destination);
  }

  #finishIfClosed(): void {
    if (this.#openEnds !== 0) return;
    // Once only, however often this is called.
    this.#openEnds = -1;
    this.#stopTimers();
    this.#init.signal.offCut(this.#onCut);
    this.#onEnd(this.#outcome ?? { reason: 'OK', endedBy: this.#ends.first ?? 'agent', rule: null, detail: '' });
  }

  #startTimers(): void {
    const { maxDurationMs, idleTimeoutMs, counters } = this.#init;
    this.#limit(maxDurationMs, 'MAX_DURATION', '');
    if (idleTimeoutMs === 0) return;
    let movedAtMs = performance.now();
    let bytes = counters.bytesSent + counters.bytesReceived;
    // Compared at intervals, instead of a timer that every chunk would have to restart.
    const timer = setInterval(
      () => {
        const now = counters.bytesSent + counters.bytesReceived;
        if (now !== bytes) {
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
