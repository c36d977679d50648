/** What one side announces to its peer, or limits it to without a word. */
export type EngineLimits = {
  /** SETTINGS_INITIAL_WINDOW_SIZE: bytes of a new stream that may be received and not consumed. */
  readonly firstWindowBytes: number;
  /** What this may become while the stream is read as fast as it comes. */
  readonly streamWindowBytes: number;
  /**
   * What the connection may receive before anything else was said; at least 65,535 (RFC 9113 §6.9.2). The windows of its
   * streams grow within it.
   */
  readonly connectionWindowBytes: number;
  /** SETTINGS_MAX_FRAME_SIZE. */
  readonly maxFrameBytes: number;
  /** SETTINGS_MAX_CONCURRENT_STREAMS of a server; a client takes no streams at all. */
  readonly maxStreams: number;
  /** SETTINGS_MAX_HEADER_LIST_SIZE, and the number of fields, which has no setting. */
  readonly maxHeaderListBytes: number;
  readonly maxHeaderFields: number;
};
