import type { Ending } from '../connection/ending.js';

/** A side of a relayed connection: `source` opened it. */
export type Side = 'source' | 'destination';

/** Application bytes. The connection's record owns the counters; the relay only adds. */
export type RelayCounters = {
  /** From source to destination. */
  bytesSent: number;
  /** From destination to source. */
  bytesReceived: number;
  /** `Date.now()` of the first byte from the destination; null until it arrives. */
  firstByteAtMs: number | null;
};

/** `reason`: OK, CLIENT_RESET (by the source), PEER_RESET (by the destination), IDLE_TIMEOUT, MAX_DURATION, or the cut's. */
export type RelayOutcome = Ending & {
  /** Which side closed first. */
  readonly endedBy: Side | 'agent';
  /** The side that broke, and how; also when both had finished before, so that the reason is OK. */
  readonly broken?: { readonly side: Side; readonly detail: string };
};
