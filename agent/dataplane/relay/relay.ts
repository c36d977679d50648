import type net from 'node:net';
import type { Reason } from '../../../shared/reasons.js';
import type { TunnelStream } from '../tunnel/tunnel.js';

/** One side of a relayed connection: an application's socket, or a stream of a tunnel. */
export type RelayEnd = net.Socket | TunnelStream;

/** Owned by the connection's record; the relay only adds. Bytes of the application. */
export type RelayCounters = {
  /** From source to destination. */
  bytesSent: number;
  /** From destination to source. */
  bytesReceived: number;
  /** `Date.now()` of the first byte from the destination; stays null when none came. */
  firstByteAtMs: number | null;
};

export type RelayOptions = {
  /** The side that opened the connection. Both ends belong to the relay from the call on, and are closed when it resolves. */
  readonly source: RelayEnd;
  readonly destination: RelayEnd;
  readonly counters: RelayCounters;
  /** How long one direction may stay open after the other was closed; 0: for ever. */
  readonly halfCloseTimeoutMs: number;
  /** Without a byte in either direction; 0: never. */
  readonly idleTimeoutMs: number;
  /** Counted from the call; 0: no limit. */
  readonly maxDurationMs: number;
  /** Abort with a `ConnectionCut`: both ends are reset at once. */
  readonly signal: AbortSignal;
};

export type RelayOutcome = {
  /** OK, CLIENT_RESET (the source did), PEER_RESET (the destination did), IDLE_TIMEOUT, MAX_DURATION, or the cut's reason. */
  readonly reason: Reason;
  readonly endedBy: 'source' | 'destination' | 'agent';
  /** The cut's rule, or empty. */
  readonly rule: string;
  readonly detail: string;
};

/** Moves bytes both ways until both directions are closed, one end is reset, or a limit or the signal ends it. Never rejects. */
export declare function relay(options: RelayOptions): Promise<RelayOutcome>;
