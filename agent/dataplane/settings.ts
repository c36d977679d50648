import type { Http2EngineName } from './tunnel/http2-engine.js';

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

/** Ports of the agent, the same as Istio ambient's, so that people, NetworkPolicies and tools know them. */
export const capturePorts = { outbound: 15001, inboundPlaintext: 15006, inboundTunnel: 15008 } as const;
export const hostPorts = { admin: 15000, metrics: 15020, health: 15021 } as const;

/** On every socket that the agent dials with: "ours, do not capture". Same value as Istio's. */
export const ownTrafficMark = 0x539;
/** Connmark and packet mark of replies to a dial that borrowed the client's address: routed back to the agent. */
export const transparentReplyMark = 0x111;
/** Routing table with the local default route for {@link transparentReplyMark}. */
export const transparentReplyTable = 111;
