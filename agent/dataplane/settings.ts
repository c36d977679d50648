/** The available engines: the values of a setting. */
export const http2EngineNames = ['node', 'lean'] as const;
export type Http2EngineName = (typeof http2EngineNames)[number];

/** Limits and timeouts of the data plane, filled from the agent's settings table. `…Ms` are milliseconds, 0 = off. */
export type DataplaneSettings = {
  readonly connectTimeoutMs: number;
  readonly tlsHandshakeTimeoutMs: number;
  /** How many more endpoints of a service are tried if the first cannot be reached. */
  readonly connectRetries: number;
  /** 0: never (the default: TCP has no idle limit). */
  readonly idleTimeoutMs: number;
  readonly maxConnectionDurationMs: number;
  /** How long one direction may stay open after the other was closed; 0: without limit. */
  readonly halfCloseTimeoutMs: number;
  readonly maxConnectionsPerWorkload: number;
  /** From one workload elsewhere to one here. */
  readonly maxConnectionsPerPeer: number;
  /** Bytes that may wait in its connections before new ones are refused. */
  readonly maxWaitingBytesPerWorkload: number;
  /** The same for the connections of all workloads together. */
  readonly maxWaitingBytes: number;
  readonly streamWindowBytes: number;
  readonly tunnelWindowBytes: number;
  readonly maxStreamsPerTunnel: number;
  readonly tunnelPingIntervalMs: number;
  readonly tunnelPingTimeoutMs: number;
  readonly tunnelIdleTimeoutMs: number;
  readonly http2Engine: Http2EngineName;
  readonly listenBacklog: number;
};
