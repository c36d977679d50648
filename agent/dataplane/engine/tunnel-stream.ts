import type { Duplex } from 'node:stream';

/**
 * One application connection inside a tunnel. `end()` is FIN, the `end` event is the peer's FIN, and each direction
 * closes independently. Flow-control credit returns to the peer only while the stream is being read, so `pause()` is
 * backpressure. The owner reads the stream to its end or calls `reset()`, and keeps an `error` listener on it until
 * `close`.
 */
export interface TunnelStream extends Duplex {
  /**
   * The TCP RST of a stream: RST_STREAM CONNECT_ERROR (RFC 9113 §8.5). Unsent bytes are lost, as with TCP. Idempotent.
   */
  reset(): void;
  /**
   * The peer reset it, or its tunnel died: received data may be truncated. Final once `end`, `error` or `close` is
   * emitted.
   */
  readonly wasReset: boolean;
  /** Why {@link wasReset} is true, for the access log; otherwise empty. */
  readonly resetDetail: string;
  /** With {@link wasReset}: its tunnel died, so neither application has closed anything. */
  readonly isTunnelLost: boolean;
  /**
   * `close` was emitted, or will be in this tick. Not {@link Duplex.closed}, which means something else in node:http2.
   */
  readonly isGone: boolean;
  /**
   * From now on bytes are only lent. Bytes that need not wait go to `reader` and are valid until it returns. Bytes that
   * had to wait come before later ones and go to the `data` listeners, valid until those return. Missing if the engine
   * has nothing to lend.
   */
  lendTo?(reader: (bytes: Buffer) => void): void;
  /**
   * Copies the part of lent bytes that can be sent at once, if no earlier write is waiting, and returns its length.
   * Pass the rest to `write`. Missing if the engine can only queue.
   */
  writeNow?(bytes: Buffer): number;
}
