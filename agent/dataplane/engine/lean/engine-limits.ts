/** Limits of one side, some announced to its peer and some only enforced. */
export type EngineLimits = {
  /** SETTINGS_INITIAL_WINDOW_SIZE: bytes of a new stream that may be received before any are consumed. */
  readonly firstWindowBytes: number;
  /** Maximum window of a stream whose reader keeps up. */
  readonly streamWindowBytes: number;
  /**
   * What the connection may receive before any WINDOW_UPDATE; at least 65,535 (RFC 9113 §6.9.2). The windows of its
   * streams grow within it.
   */
  readonly connectionWindowBytes: number;
  /** SETTINGS_MAX_FRAME_SIZE. */
  readonly maxFrameBytes: number;
  /** SETTINGS_MAX_CONCURRENT_STREAMS of a server; a client accepts no streams. */
  readonly maxStreams: number;
  /** SETTINGS_MAX_HEADER_LIST_SIZE, and the maximum number of fields, for which there is no setting. */
  readonly maxHeaderListBytes: number;
  readonly maxHeaderFields: number;
};
