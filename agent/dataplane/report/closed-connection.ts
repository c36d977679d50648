import type { HostPort } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { RuleRef } from '../../../shared/policy/connection.js';
import type { Reason } from '../../../shared/reasons.js';
import type { FaultKind } from '../../../shared/routing/faults.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

/** How the bytes travelled between the two sides, as far as this agent knows. */
const connectionPaths = [
  /** Through a mutual-TLS tunnel to the agent of another host. */
  'hbone',
  /** Between two workloads of this host: both halves of the rules, no TLS in between. */
  'local',
  /** Plain TCP that came from outside the mesh to a captured workload, or went to a workload without an agent. */
  'plaintext',
  /** From a program of the host that may probe (`hostProbes`), to a workload of it: no rule was asked. */
  'probe',
  /** To an address that no workload or service has. */
  'passthrough',
  /** Refused before a path was chosen. */
  'none',
] as const;
export type ConnectionPath = (typeof connectionPaths)[number];

/**
 * A finished connection: becomes one access-log line, and is counted by metrics and flow records. Each agent makes exactly
 * one for each connection it accepts. Plain data, because it is sent between threads.
 */
export type ClosedConnection = {
  /** 32 hex digits, the same at both agents: the trace id of the `traceparent` header. */
  readonly traceId: string;
  readonly direction: 'outbound' | 'inbound';
  readonly path: ConnectionPath;
  /** Milliseconds since the epoch, by the agent's clock. */
  readonly startedAtMs: number;
  readonly durationMs: number;
  readonly source: ConnectionParty;
  readonly destination: ConnectionParty;
  /** The service whose address the application dialled, or the ServiceEntry that names it: `namespace/name`. */
  readonly service: string | null;
  /** What the application dialled (outbound), or the address that the peer asked for (inbound). */
  readonly requested: HostPort | null;
  readonly reason: Reason;
  /** The rule that allowed, refused or ended it; null when no rule was evaluated. */
  readonly rule: RuleRef | null;
  /** Rules of mode audit that would have denied it. */
  readonly audited: readonly RuleRef[];
  readonly revision: number;
  /** Bytes of the application, from source to destination. */
  readonly bytesSent: number;
  /** Bytes of the application, from destination to source. */
  readonly bytesReceived: number;
  /** From accept until the far side was connected; null when it never was. */
  readonly connectMs: number | null;
  /** From accept until the first byte from the destination; null when there was none. */
  readonly firstByteMs: number | null;
  /** A detail in addition to the reason, such as `ECONNREFUSED 198.18.11.2:80`; may be empty. */
  readonly detail: string;
  /** The route that led it; absent: none did. */
  readonly route?: RouteTaken;
  /** RateLimits that refused it or held its bytes up, or would have in mode enforce; absent: none did. */
  readonly limited?: readonly LimitHit[];
  /** What a VirtualService had done to it on purpose; absent: nothing. */
  readonly faults?: readonly FaultKind[];
  /** It carried a copy (`mirror`) for a shadow: the trace id of the connection that was copied; absent: none. */
  readonly mirrorOf?: string;
  /** What the application saw as its client; absent when that was the source's address, or the other agent dialled. */
  readonly dialledFrom?: HostPort;
  /** Bytes already reported for flow records while it was open (`OpenConnections`); absent when none were. */
  readonly reportedOpen?: { readonly sent: number; readonly received: number };
};

/** `route`: document and position, `VirtualService/shop/web spec.tcp[1]`. `subset`: that, or the backend; null: all endpoints. */
export type RouteTaken = { readonly route: string; readonly subset: string | null };

/** `limit`: `RateLimit/billing/ledger`. `bound`: its field that is used up; `slots`: it could not be counted. */
export type LimitHit = {
  readonly limit: string;
  readonly bound: 'connectionsPerSecond' | 'maxConnections' | 'bytesPerSecond' | 'slots';
  readonly mode: 'enforce' | 'audit';
};

export type ConnectionParty = {
  readonly address: HostPort | null;
  /** The registered workload. */
  readonly workload: WorkloadName | null;
  /** Proved by a certificate, or the registry's for a workload of this host. */
  readonly identity: SpiffeId | null;
};
