import { formatHostPort } from '../../shared/address.js';
import type { Log } from '../../shared/log.js';
import { formatRuleRef } from '../../shared/policy/connection.js';
import { reasonInfo } from '../../shared/reasons.js';
import type { ClosedConnection } from '../dataplane/report/closed-connection.js';

export type AccessLogMode = 'on' | 'denied' | 'off';

/**
 * The fields of an access-log line, in their order. `kind` is always `access`. Empty ones are left out, so that a line
 * says only what is known.
 */
export type AccessLogLine = {
  readonly kind: 'access';
  /** Same at both agents: 32 hex digits. */
  readonly traceId: string;
  readonly direction: 'outbound' | 'inbound';
  readonly path: string;
  /** See the table of reasons in the README. */
  readonly reason: string;
  /** Who has to look into it. */
  readonly faultSide: string;
  readonly rule?: string;
  /** Rules of mode audit that would have denied. */
  readonly audited?: readonly string[];
  readonly revision: number;
  /** `namespace/name`. */
  readonly sourceWorkload?: string;
  readonly sourceIdentity?: string;
  /** `ip:port`, as for every address here. */
  readonly sourceAddress?: string;
  readonly destinationWorkload?: string;
  readonly destinationIdentity?: string;
  readonly destinationAddress?: string;
  /** What the application dialled: its name and its address. */
  readonly service?: string;
  readonly requested?: string;
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** RFC 3339. */
  readonly startedAt: string;
  readonly durationMs: number;
  readonly connectMs?: number;
  readonly firstByteMs?: number;
  readonly detail?: string;
  /** The command to try next; only when something went wrong. */
  readonly next?: string;
};

/** Writes one line for each connection, at the level that its reason has. */
export class AccessLog {
  readonly #log: Log;
  readonly #mode: AccessLogMode;

  constructor(init: { readonly log: Log; readonly mode: AccessLogMode }) {
    this.#log = init.log;
    this.#mode = init.mode;
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
  // Assigned one by one, in the order of the type: spreading parts that may be empty takes three times as long.
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
  if (destination.workload !== null) line.destinationWorkload = destination.workload;
  if (destination.identity !== null) line.destinationIdentity = destination.identity;
  if (destination.address !== null) line.destinationAddress = formatHostPort(destination.address);
  if (connection.service !== null) line.service = connection.service;
  if (connection.requested !== null) line.requested = formatHostPort(connection.requested);
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

/** To the microsecond: what the clock can tell. */
function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
