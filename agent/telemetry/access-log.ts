import { formatHostPort } from '../../shared/address.js';
import type { Log } from '../../shared/log.js';
import { formatRuleRef } from '../../shared/policy/connection.js';
import { reasonInfo } from '../../shared/reasons.js';
import type { WorkerReport } from '../dataplane/messages.js';
import type { ClosedConnection } from '../dataplane/report/closed-connection.js';

export type AccessLogMode = 'on' | 'denied' | 'off';

/**
 * The fields of an access-log line, in order. `kind` is always `access`. Empty fields are left out, so that a line
 * contains only what is known.
 */
export type AccessLogLine = {
  readonly kind: 'access';
  /** The same at both agents: 32 hex digits. */
  readonly traceId: string;
  readonly direction: 'outbound' | 'inbound';
  readonly path: string;
  /** See the table of reasons in the documentation. */
  readonly reason: string;
  /** Which side must look into it. */
  readonly faultSide: string;
  readonly rule?: string;
  /** Rules in audit mode that would have denied the connection. */
  readonly audited?: readonly string[];
  readonly revision: number;
  /** `namespace/name`. */
  readonly sourceWorkload?: string;
  readonly sourceIdentity?: string;
  /** `ip:port`, like every address here. */
  readonly sourceAddress?: string;
  /** What the application sees as its client, where that is not `sourceAddress`. */
  readonly dialledFrom?: string;
  readonly destinationWorkload?: string;
  readonly destinationIdentity?: string;
  readonly destinationAddress?: string;
  /** What the application dialled: name and address. */
  readonly service?: string;
  readonly requested?: string;
  /** The route that led the connection, and the subset or the backend (`shop/web-v2:80`) that was drawn. */
  readonly route?: string;
  readonly subset?: string;
  /** RateLimits that refused it, or would have in mode enforce: name, field that is used up, mode. */
  readonly limited?: readonly string[];
  /** What a VirtualService had done to it on purpose (delay, abort, throttle). */
  readonly faults?: readonly string[];
  /** It carried a copy (`mirror`) to a shadow: the traceId of the connection that was copied. */
  readonly mirrorOf?: string;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** RFC 3339. */
  readonly startedAt: string;
  readonly durationMs: number;
  readonly connectMs?: number;
  readonly firstByteMs?: number;
  readonly detail?: string;
  /** The command to try next; only if something went wrong. */
  readonly next?: string;
};

/** Writes one line for each connection, at the level of its reason. */
export class AccessLog {
  readonly #log: Log;
  readonly #mode: AccessLogMode;

  constructor(init: { readonly log: Log; readonly mode: AccessLogMode }) {
    this.#log = init.log;
    this.#mode = init.mode;
  }

  /** What a worker tells: connections that ended, and endpoints that were ejected, which count as refusals. */
  report({ closed, ejections = [] }: Pick<WorkerReport, 'closed' | 'ejections'>): void {
    for (const connection of closed) this.write(connection);
    if (this.#mode === 'off') return;
    for (const { destination, rule, workload, address, reason, count, forMs } of ejections) {
      const endpoint = { ...(workload === null ? {} : { workload }), address: formatHostPort(address) };
      const line = {
        kind: 'ejection',
        destination,
        destinationRule: rule,
        ...endpoint,
        reason,
        count,
        forMs: Math.round(forMs),
      };
      this.#log.warn(line, 'An endpoint failed so often in a row that it gets no connection for a while.');
    }
  }

  write(connection: ClosedConnection): void {
    const { level, text } = reasonInfo(connection.reason);
    if (this.#mode === 'off' || (this.#mode === 'denied' && level === 'info')) return;
    this.#log[level](accessLogLine(connection), text);
  }
}

export function accessLogLine(connection: ClosedConnection): AccessLogLine {
  const { source, destination } = connection;
  const info = reasonInfo(connection.reason);
  // Assigned one by one, in the type's order: spreading optional parts takes three times as long.
  const line: WritableLine = {
    kind: 'access',
    traceId: connection.traceId,
    direction: connection.direction,
    path: connection.path,
    reason: connection.reason,
    faultSide: info.side,
  };
  if (connection.rule !== null) line.rule = formatRuleRef(connection.rule);
  if (connection.audited.length > 0) line.audited = connection.audited.map(formatRuleRef);
  line.revision = connection.revision;
  if (source.workload !== null) line.sourceWorkload = source.workload;
  if (source.identity !== null) line.sourceIdentity = source.identity;
  if (source.address !== null) line.sourceAddress = formatHostPort(source.address);
  if (connection.dialledFrom !== undefined) line.dialledFrom = formatHostPort(connection.dialledFrom);
  if (destination.workload !== null) line.destinationWorkload = destination.workload;
  if (destination.identity !== null) line.destinationIdentity = destination.identity;
  if (destination.address !== null) line.destinationAddress = formatHostPort(destination.address);
  if (connection.service !== null) line.service = connection.service;
  if (connection.requested !== null) line.requested = formatHostPort(connection.requested);
  if (connection.route !== undefined) {
    line.route = connection.route.route;
    if (connection.route.subset !== null) line.subset = connection.route.subset;
  }
  if (connection.limited !== undefined) {
    line.limited = connection.limited.map(({ limit, bound, mode }) => `${limit} ${bound} ${mode}`);
  }
  if (connection.faults !== undefined) line.faults = connection.faults;
  if (connection.mirrorOf !== undefined) line.mirrorOf = connection.mirrorOf;
  line.bytesSent = connection.bytesSent;
  line.bytesReceived = connection.bytesReceived;
  line.startedAt = new Date(connection.startedAtMs).toISOString();
  line.durationMs = rounded(connection.durationMs);
  if (connection.connectMs !== null) line.connectMs = rounded(connection.connectMs);
  if (connection.firstByteMs !== null) line.firstByteMs = rounded(connection.firstByteMs);
  if (connection.detail !== '') line.detail = connection.detail;
  if (connection.reason !== 'OK') line.next = info.next;
  return line as AccessLogLine;
}

type WritableLine = { -readonly [Field in keyof AccessLogLine]?: AccessLogLine[Field] };

/** Rounded to microseconds, the clock's resolution. */
function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
