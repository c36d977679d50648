/** Whose transport it is. Nothing is called after `onClosed`. */
export interface TransportOwner {
  /** Bytes of the peer, split anywhere. They are lent until this returns. */
  onBytes(bytes: Buffer): void;
  /** All that was written has been taken, so more may be written. Comes after the call of `write`, once for each. */
  onWritten(): void;
  /** The end of the turn in which {@link Transport.wantOutput} was called. */
  onOutput(): void;
  /** The connection is gone: it was ended or destroyed, the peer has ended it, or it failed. */
  onClosed(): void;
}

/**
 * An established TLS connection, as an HTTP/2 session uses it. It has no half-close: when the peer has ended, it closes behind
 * what was written. It reads whether or not it can write.
 */
export interface Transport {
  /** It was ended or destroyed, or is gone: nothing more is written. */
  readonly isDestroyed: boolean;
  /** How many bytes one {@link write} should have at most. */
  readonly writeBytes: number;
  /** Begins to read. Call it once. `onClosed` comes later where the connection is gone already. */
  start(owner: TransportOwner): void;
  /**
   * Writes parts of arenas of `write-arenas.ts`, in order, which it releases. Call it again after `onWritten` only: what the
   * peer does not read waits in the streams, where it is bounded.
   */
  write(parts: readonly Buffer[]): void;
  /** Asks for `onOutput`, once. */
  wantOutput(): void;
  /** Nothing comes until {@link resume}, also no end; some bytes that are on their way still do. */
  pause(): void;
  resume(): void;
  /** The end, with close_notify, behind what was written; then it closes. */
  end(): void;
  /** Closes at once. What waits is lost. */
  destroy(): void;
}
