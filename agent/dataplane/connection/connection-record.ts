import type { HostPort } from '../../../shared/address.js';
import type { Decision, RuleRef } from '../../../shared/policy/connection.js';
import type { FaultKind } from '../../../shared/routing/faults.js';
import type {
  ClosedConnection,
  ConnectionParty,
  ConnectionPath,
  LimitHit,
  RouteTaken,
} from '../report/closed-connection.js';
import { ruledPort, type LiveBytes, type OpenConnections, type OpenParty } from '../report/open-connections.js';
import type { Ending } from './ending.js';
import { newTraceId } from './trace-context.js';

const noRules: readonly RuleRef[] = [];
const unknownParty: ConnectionParty = { address: null, workload: null, identity: null };

/**
 * The live record of one accepted connection: owns its byte counts, times and labels, and becomes the one
 * {@link ClosedConnection}. The relay adds to `bytesSent`, `bytesReceived` and `firstByteAtMs` directly: they are plain
 * numbers, so counting costs nothing per chunk.
 */
export class ConnectionRecord {
  readonly traceId: string;
  readonly direction: 'outbound' | 'inbound';
  /** The trace id of the connection of which it carries a copy; null: of none. */
  readonly mirrorOf: string | null;
  readonly startedAtMs = Date.now();
  /** Bytes of the application from source to destination. */
  bytesSent = 0;
  /** Bytes of the application from destination to source. */
  bytesReceived = 0;
  /** `Date.now()` of the first byte from the destination; null when none came. */
  firstByteAtMs: number | null = null;
  path: ConnectionPath = 'none';
  source: ConnectionParty = unknownParty;
  destination: ConnectionParty = unknownParty;
  service: string | null = null;
  requested: HostPort | null = null;
  /** The route that leads it; null: no document does. */
  route: RouteTaken | null = null;
  #limited: readonly LimitHit[] | null = null;
  #faults: readonly FaultKind[] | null = null;
  /** Whether the last sweep counted it among the open connections that are in no report. */
  isCountedOpen = false;
  /** This agent's own end of its connection to the application; null when it has none. */
  dialEnd: HostPort | null = null;
  #rule: RuleRef | null = null;
  #audited = noRules;
  #revision = 0;
  #connectMs: number | null = null;
  #reportedSent = 0;
  #reportedReceived = 0;
  #reportedOpen: { readonly sent: number; readonly received: number } | null = null;
  #openReportedMs: number;
  #isClosed = false;
  readonly #startedMs = performance.now();
  #endedMs: number | null = null;

  /** `traceId`: 32 hex digits from the other agent; a new one when absent. */
  constructor(init: {
    readonly direction: 'outbound' | 'inbound';
    readonly traceId?: string | undefined;
    readonly mirrorOf?: string | undefined;
  }) {
    this.direction = init.direction;
    this.mirrorOf = init.mirrorOf ?? null;
    this.traceId = init.traceId ?? newTraceId();
    this.#openReportedMs = this.#startedMs;
  }

  /** Null when no rule was asked yet. */
  get rule(): RuleRef | null {
    return this.#rule;
  }

  /** The rules are asked again, about another endpoint: what was decided of the one before is not about this one. */
  undecided(): void {
    this.#rule = null;
    this.#audited = noRules;
  }

  decided(decision: Decision, revision: number): void {
    this.#rule = decision.rule;
    // Not the decision's own empty list: one for each open connection would add up.
    this.#audited = decision.audited.length === 0 ? noRules : decision.audited;
    this.#revision = revision;
  }

  /** A rule of this revision refused before the others were asked, for example a STRICT PeerAuthentication. */
  refusedBy(rule: RuleRef, revision: number): void {
    this.#rule = rule;
    this.#audited = noRules;
    this.#revision = revision;
  }

  /**
   * The far side is connected: the time since accept is the connect latency. `from`: the address that this agent dialled
   * from; null when the other agent dials.
   */
  connected(path: ConnectionPath, from: HostPort | null): void {
    this.path = path;
    this.dialEnd = from;
    this.#connectMs = performance.now() - this.#startedMs;
  }

  /** What the application sees as its client, if that is not the client's own address and port. */
  get dialledFrom(): HostPort | null {
    const client = this.source.address;
    const from = this.dialEnd;
    return from?.port === client?.port && from?.ip === client?.ip ? null : from;
  }

  /** A RateLimit refuses it or holds its bytes up, or would. Each is noted once. */
  limitedBy(hit: LimitHit): void {
    const { limit, bound } = hit;
    if (this.#limited?.some((other) => other.limit === limit && other.bound === bound) === true) return;
    this.#limited = [...(this.#limited ?? []), hit];
  }

  /** A VirtualService has this done to it on purpose. */
  faulted(fault: FaultKind): void {
    this.#faults = [...(this.#faults ?? []), fault];
  }

  /** No more bytes move, and the duration ends here, although the reason may still be open. */
  ended(): void {
    this.#endedMs ??= performance.now();
  }

  /** Bytes moved since the last call; null when none were. Called by the sweep, and once more after closing. */
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

  get isReportedOpen(): boolean {
    return this.#reportedOpen !== null;
  }

  /**
   * What the connection did since the last call, for flow records; null within `everyMs` of it (the first time, within
   * `firstMs` of the accept), or when not connected.
   */
  takeOpen(everyMs: number, firstMs = everyMs): OpenConnections | null {
    const nowMs = performance.now();
    const before = this.#reportedOpen;
    if (this.#connectMs === null || this.#endedMs !== null) return null;
    if (nowMs - this.#openReportedMs < (before === null ? firstMs : everyMs)) return null;
    this.#openReportedMs = nowMs;
    this.#reportedOpen = { sent: this.bytesSent, received: this.bytesReceived };
    return {
      direction: this.direction,
      ...(this.path === 'probe' ? { probe: true as const } : {}),
      source: openParty(this.source),
      destination: openParty(this.destination),
      port: ruledPort(this),
      rule: this.#rule,
      audited: this.#audited,
      revision: this.#revision,
      connections: before === null ? 1 : 0,
      bytesSent: this.bytesSent - (before?.sent ?? 0),
      bytesReceived: this.bytesReceived - (before?.received ?? 0),
      firstSeenMs: this.startedAtMs,
      lastSeenMs: Date.now(),
    };
  }

  /** Throws on a second call. */
  close(ending: Ending): ClosedConnection {
    if (this.#isClosed) throw new Error(`connection ${this.traceId} was closed twice`);
    this.#isClosed = true;
    this.ended();
    const { dialledFrom, route, mirrorOf } = this;
    const limited = this.#limited;
    const faults = this.#faults;
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
      rule: ending.rule ?? (ending.isOtherAgents === true ? null : this.#rule),
      audited: this.#audited,
      revision: this.#revision,
      bytesSent: this.bytesSent,
      bytesReceived: this.bytesReceived,
      connectMs: this.#connectMs === null ? null : roundMs(this.#connectMs),
      firstByteMs: this.firstByteAtMs === null ? null : Math.max(0, this.firstByteAtMs - this.startedAtMs),
      detail: ending.detail,
      ...(route === null ? {} : { route }),
      ...(limited === null ? {} : { limited }),
      ...(faults === null ? {} : { faults }),
      ...(mirrorOf === null ? {} : { mirrorOf }),
      ...(dialledFrom === null ? {} : { dialledFrom }),
      ...(this.#reportedOpen === null ? {} : { reportedOpen: this.#reportedOpen }),
    };
  }
}

/** Has the address only when no workload stands for it, so that connections from many ports are one flow. */
function openParty({ workload, identity, address }: ConnectionParty): OpenParty {
  return { workload, identity, ip: workload === null ? (address?.ip ?? null) : null };
}

/** Microseconds are enough, and keep the log line short. */
function roundMs(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
