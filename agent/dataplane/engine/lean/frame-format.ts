/** RFC 9113 §4.1: 24 bits of length, 8 of type, 8 of flags, one reserved bit and 31 bits of stream identifier. */
export const frameHeaderBytes = 9;

/** RFC 9113 §6. */
export const frameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const frameFlag = { ack: 0x1, endStream: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

/** RFC 9113 §6.5.2. */
export const settingId = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;

/** RFC 9113 §3.4. */
export const clientPreface = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');

/** Values in force before SETTINGS change them (RFC 9113 §6.5.2), and the upper ends of their ranges. */
export const protocolDefaults = {
  windowBytes: 65_535,
  frameBytes: 16_384,
  headerTableBytes: 4096,
} as const;
export const largestWindowBytes = 2 ** 31 - 1;
export const largestFrameBytes = 2 ** 24 - 1;
export const largestStreamId = 2 ** 31 - 1;
