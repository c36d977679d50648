import { formatHostPort } from '../../shared/address.js';
import type { Log } from '../../shared/log.js';
import { reasonInfo } from '../../shared/reasons.js';
import type { ClosedConnection, ConnectionEnd } from './closed-connection.js';

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
  const info = reasonInfo(connection.reason);
  return {
    kind: 'access',
    traceId: connection.traceId,
    direction: connection.direction,
    path: connection.path,
    reason: connection.reason,
    faultSide: info.side,
    ...(connection.rule === '' ? {} : { rule: connection.rule }),
    ...(connection.audited.length === 0 ? {} : { audited: connection.audited }),
    revision: connection.revision,
    ...endFields('source', connection.source),
    ...endFields('destination', connection.destination),
    ...(connection.service === null ? {} : { service: connection.service }),
    ...(connection.requested === null ? {} : { requested: formatHostPort(connection.requested) }),
    bytesSent: connection.bytesSent,
    bytesReceived: connection.bytesReceived,
    startedAt: new Date(connection.startedAtMs).toISOString(),
    durationMs: rounded(connection.durationMs),
    ...(connection.connectMs === null ? {} : { connectMs: rounded(connection.connectMs) }),
    ...(connection.firstByteMs === null ? {} : { firstByteMs: rounded(connection.firstByteMs) }),
    ...(connection.detail === '' ? {} : { detail: connection.detail }),
    ...(connection.reason === 'OK' ? {} : { next: info.next }),
  };
}

function endFields(side: 'source' | 'destination', end: ConnectionEnd): Record<string, string> {
  return {
    ...(end.workload === null ? {} : { [`${side}Workload`]: end.workload }),
    ...(end.identity === null ? {} : { [`${side}Identity`]: end.identity }),
    ...(end.address === null ? {} : { [`${side}Address`]: formatHostPort(end.address) }),
  };
}

/** To the microsecond: what the clock can tell. */
function rounded(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
