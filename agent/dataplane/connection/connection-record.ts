import type { HostPort } from '../../../shared/address.js';
import type { Decision } from '../../../shared/policy/connection.js';
import { formatRuleRef } from '../../../shared/policy/connection.js';
import type { Reason } from '../../../shared/reasons.js';
import type { LiveBytes } from '../report/live-bytes.js';
import type { ClosedConnection, ConnectionParty, ConnectionPath } from '../report/closed-connection.js';
import { ruledPort, type OpenConnections, type OpenParty } from '../report/open-connections.js';
import { randomHex } from './random-hex.js';

/** How a connection ended. `rule` replaces the rule that let it in, when another one ended it. */
export type Ending = { readonly reason: Reason; readonly detail: string; readonly rule?: string };

const noRules: readonly string[] = [];
const nobody: ConnectionParty = { address: null, workload: null, identity: null };

/**
 * The live record of one accepted connection: owns its byte counts, times and labels, and becomes the one
 * {@link ClosedConnection}. The relay adds to `bytesSent`, `bytesReceived` and `firstByteAtMs` directly: plain numbers,
 * so that counting costs nothing per chunk. `close` is called exactly once; a second call is a bug and throws.
 */
export class ConnectionRecord {
  readonly traceId: string;
  readonly direction: 'outbound' | 'inbound';
  readonly startedAtMs = Date.now();
  /** Bytes of the application from source to destination. */
  bytesSent = 0;
  /** Bytes of the application from destination to source. */
  bytesReceived = 0;
  /** `Date.now()` of the first byte from the destination; null when none came. */
  firstByteAtMs: number | null = null;
  path: ConnectionPath = 'none';
  source: ConnectionParty = nobody;
  destination: ConnectionParty = nobody;
  service: string | null = null;
  requested: HostPort | null = null;
  #rule = '';
  #audited = noRules;
  #revision = 0;
  #connectMs: number | null = null;
  #reportedSent = 0;
  #reportedReceived = 0;
  #toldOpen: { readonly sent: number; readonly received: number } | null = null;
  #openToldMs: number;
  #isClosed = false;
  readonly #startedMs = performance.now();
  #endedMs: number | null = null;

  /** `traceId`: 32 hex digits from the other agent, when it sent some; otherwise a new one is made. */
  constructor(init: { readonly direction: 'outbound' | 'inbound'; readonly traceId?: string | undefined }) {
    this.direction = init.direction;
    this.traceId = init.traceId ?? randomHex(16);
    this.#openToldMs = this.#startedMs;
  }

  get rule(): string {
    return this.#rule;
  }

  decided(decision: Decision, revision: number): void {
    this.#rule = formatRuleRef(decision.rule);
    this.#audited = decision.audited.length === 0 ? noRules : decision.audited.map(formatRuleRef);
    this.#revision = revision;
  }

  /** A rule of this revision refused before the others were asked: a STRICT PeerAuthentication, say. */
  refusedBy(rule: string, revision: number): void {
    this.#rule = rule;
    this.#audited = noRules;
    this.#revision = revision;
  }

  /** The far side is connected: the time since accept is the connect latency. */
  connected(path: ConnectionPath): void {
    this.path = path;
    this.#connectMs = performance.now() - this.#startedMs;
  }

  /** Nothing moves any more, though the reason is still being found out: the duration ends here. */
  ended(): void {
    this.#endedMs ??= performance.now();
  }

  /** What moved since the last call; null when nothing did. Called by the sweep and once more after closing. */
  takeLive(): LiveBytes | null {
    const sent = this.bytesSent - this.#reportedSent;
    const received = this.bytesReceived - this.#reportedReceived;
    if (sent === 0 && received === 0) return null;
    this.#reportedSent = this.bytesSent;
    this.#reportedReceived = this.bytesReceived;
    return {
      direction: this.direction,
      sourceWorkload: this.source.workload,
      destinationWorkload: this.destination.workload,
      sent,
      received,
    };
  }

  /** What it did since the last call, for flow records; null when that was less than `everyMs` ago, or it is not connected. */
  takeOpen(everyMs: number): OpenConnections | null {
    const nowMs = performance.now();
    if (this.#connectMs === null || this.#endedMs !== null || nowMs - this.#openToldMs < everyMs) return null;
    const told = this.#toldOpen;
    this.#openToldMs = nowMs;
    this.#toldOpen = { sent: this.bytesSent, received: this.bytesReceived };
    return {
      direction: this.direction,
      source: openParty(this.source),
      destination: openParty(this.destination),
      port: ruledPort(this),
      rule: this.#rule,
      audited: this.#audited,
      revision: this.#revision,
      connections: told === null ? 1 : 0,
      bytesSent: this.bytesSent - (told?.sent ?? 0),
      bytesReceived: this.bytesReceived - (told?.received ?? 0),
      firstSeenMs: this.startedAtMs,
      lastSeenMs: Date.now(),
    };
  }

  close(ending: Ending): ClosedConnection {
    if (this.#isClosed) throw new Error(`connection ${this.traceId} was closed twice`);
    this.#isClosed = true;
    this.ended();
    return {
      traceId: this.traceId,
      direction: this.direction,
      path: this.path,
      startedAtMs: this.startedAtMs,
      durationMs: roundMs((this.#endedMs ?? 0) - this.#startedMs),
      source: this.source,
      destination: this.destination,
      service: this.service,
      requested: this.requested,
      reason: ending.reason,
      rule: ending.rule ?? this.#rule,
      audited: this.#audited,
      revision: this.#revision,
      bytesSent: this.bytesSent,
      bytesReceived: this.bytesReceived,
      connectMs: this.#connectMs === null ? null : roundMs(this.#connectMs),
      firstByteMs: this.firstByteAtMs === null ? null : Math.max(0, this.firstByteAtMs - this.startedAtMs),
      detail: ending.detail,
      ...(this.#toldOpen === null ? {} : { toldOpen: this.#toldOpen }),
    };
  }
}

/** The address only where no workload stands for it, so that connections of many ports and addresses are one flow. */
function openParty({ workload, identity, address }: ConnectionParty): OpenParty {
  return { workload, identity, ip: workload === null ? (address?.ip ?? null) : null };
}

/** Microseconds are enough, and keep the log line short. */
function roundMs(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
