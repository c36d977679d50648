import { describeError } from '../../../shared/errors.js';
import { isReason, reasonInfo, type Reason } from '../../../shared/reasons.js';
import type { HeadersOfPeer } from '../engine/http2-engine.js';
import type { TunnelNotOpened } from './tunnel.js';

/** Why a tunnel or a stream could not be opened; `isRetryable`: another endpoint may do better. */
export function notOpened(reason: Reason, detail: string, isRetryable: boolean, rule = ''): TunnelNotOpened {
  return { ok: false, reason, rule, detail, isRetryable };
}

const dialReasons: Readonly<Record<string, Reason>> = {
  // Nobody listens on the tunnel port of that address: its agent is gone or never captured it.
  ECONNREFUSED: 'NOT_MESHED_PEER',
  ETIMEDOUT: 'CONNECT_TIMEOUT',
  EHOSTUNREACH: 'HOST_UNREACHABLE',
  ENETUNREACH: 'HOST_UNREACHABLE',
  EHOSTDOWN: 'HOST_UNREACHABLE',
  ENETDOWN: 'HOST_UNREACHABLE',
  EMFILE: 'RESOURCE_FD',
  ENFILE: 'RESOURCE_FD',
  EADDRNOTAVAIL: 'RESOURCE_PORTS',
  EADDRINUSE: 'RESOURCE_PORTS',
};

/** The TCP connection to the tunnel port could not be made. `address` is for the access log. */
export function dialFailure(error: unknown, address: string): TunnelNotOpened {
  const reason = dialReasons[codeOf(error)] ?? 'HOST_UNREACHABLE';
  const isRetryable = reason !== 'RESOURCE_FD';
  return notOpened(reason, `tunnel to ${address}: ${describeError(error)}`, isRetryable);
}

/**
 * OpenSSL's verification result, or the alert that the peer sent about our certificate, as a reason. Sources:
 * openssl-verification-options(1), RFC 8446 §6.2.
 */
const tlsReasons: Readonly<Record<string, Reason>> = {
  CERT_HAS_EXPIRED: 'CERT_EXPIRED',
  CERT_NOT_YET_VALID: 'CERT_NOT_YET_VALID',
  CERT_REVOKED: 'CERT_REVOKED',
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: 'CERT_EXPIRED',
};

export function tlsReason(error: unknown): Reason {
  const code = codeOf(error);
  if (code === 'PEER_IDENTITY') return 'PEER_IDENTITY';
  return tlsReasons[code] ?? 'TLS_HANDSHAKE';
}

/** The handshake failed after TCP was connected. */
export function tlsFailure(error: unknown, address: string): TunnelNotOpened {
  const code = codeOf(error);
  const text = describeError(error);
  const detail = code === '' || text.includes(code) ? text : `${code}: ${text}`;
  return notOpened(tlsReason(error), `tunnel to ${address}: ${detail}`, true);
}

/** Statuses of an agent that names no reason, ztunnel say. */
const statusReasons: Readonly<Record<number, Reason>> = {
  401: 'POLICY_DENY',
  403: 'POLICY_DENY',
  429: 'CONN_LIMIT',
  503: 'CONNECT_REFUSED',
  504: 'CONNECT_TIMEOUT',
};

const longestRuleText = 256;

/**
 * The other agent answered the CONNECT with something else than 200. Its reason is believed when it is one of the table
 * and belongs to the status; the rest of what it says is text for the log.
 */
export function refusalOf(headers: HeadersOfPeer, address: string): TunnelNotOpened {
  const status = Number(headers[':status']);
  const claimed = textOf(headers['x-culvert-reason']);
  const isBelievable = isReason(claimed) && reasonInfo(claimed).status === status;
  const reason = isBelievable ? claimed : (statusReasons[status] ?? 'PROTOCOL_ERROR');
  const rule = textOf(headers['x-culvert-rule']).slice(0, longestRuleText);
  return notOpened(reason, `${address} answered ${status}`, isWorthAnotherEndpoint(reason), rule);
}

function isWorthAnotherEndpoint(reason: Reason): boolean {
  return reasonInfo(reason).status === 503;
}

function textOf(value: string | readonly string[] | undefined): string {
  return typeof value === 'string' ? value : '';
}

function codeOf(error: unknown): string {
  if (!(error instanceof Error) || !('code' in error)) return '';
  return typeof error.code === 'string' ? error.code : '';
}
