/** The engines there are; the value of a setting. */
export const http2EngineNames = ['node', 'lean'] as const;
export type Http2EngineName = (typeof http2EngineNames)[number];

/** Limits and times of the data plane. Filled from the agent's configuration table; `…Ms` are milliseconds, 0 = off. */
export type DataplaneSettings = {
  readonly connectTimeoutMs: number;
  readonly tlsHandshakeTimeoutMs: number;
  /** How many other endpoints of a service are tried after the first could not be reached. */
  readonly connectRetries: number;
  /** 0: never (the default: TCP has no idle limit). */
  readonly idleTimeoutMs: number;
  readonly maxConnectionDurationMs: number;
  /** How long one direction may stay open after the other was closed; 0: for ever. */
  readonly halfCloseTimeoutMs: number;
  readonly maxConnectionsPerWorkload: number;
  /** Bytes that wait in its connections before new ones are refused. */
  readonly maxWaitingBytesPerWorkload: number;
  readonly streamWindowBytes: number;
  readonly tunnelWindowBytes: number;
  readonly maxStreamsPerTunnel: number;
  readonly tunnelPingIntervalMs: number;
  readonly tunnelPingTimeoutMs: number;
  readonly tunnelIdleTimeoutMs: number;
  readonly http2Engine: Http2EngineName;
  readonly listenBacklog: number;
};
