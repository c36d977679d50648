import type { Duplex } from 'node:stream';

/**
 * One application connection inside a tunnel. `end()` is FIN, the `end` event is the peer's FIN, both directions close
 * alone. Flow-control credit goes back to the peer only while the stream is being read, so `pause()` is backpressure.
 * Whoever got it reads it to its end or calls `reset()`, and keeps an `error` listener on it until `close`.
 */
export interface TunnelStream extends Duplex {
  /** The TCP RST of a stream: RST_STREAM CONNECT_ERROR (RFC 9113 §8.5). Unsent bytes are lost, as with TCP. Idempotent. */
  reset(): void;
  /** The peer reset it, or the tunnel under it died: what was received may be cut short. Settled once `end`, `error` or `close` is emitted. */
  readonly wasReset: boolean;
  /** Why {@link wasReset} is true, for the access log; empty otherwise. */
  readonly resetDetail: string;
  /** `close` was emitted, or will be in this tick. Not {@link Duplex.closed}, to which node:http2 gives another meaning. */
  readonly isGone: boolean;
  /**
   * From now on bytes are only lent: those that need not wait to the reader until it returns, those that had to wait, which
   * come before later ones, to the listeners of `data` until they return. Missing where the engine has nothing to lend.
   */
  lendTo?(reader: (bytes: Buffer) => void): void;
  /**
   * Copies what may leave at once of lent bytes, when nothing that was written waits, and returns how much that is; the
   * rest is for `write`. Missing where the engine can only queue.
   */
  writeNow?(bytes: Buffer): number;
}
