import { describeError } from '../../../shared/errors.js';
import { parseRuleRef } from '../../../shared/policy/connection.js';
import { isReason, reasonInfo, type Reason } from '../../../shared/reasons.js';
import { notAsked, refusedByUs, unreachable, type Refused } from './ending.js';

/**
 * From an error to its reason: the one place in the data plane that knows both. Errors come from the kernel, from OpenSSL,
 * from the other agent's answer to a CONNECT, and from a side of an open connection that breaks.
 */

/** Why a peer was refused before there was a request: a closed set, used as a metric label. */
export const refusedHandshakeKinds = [
  /** Not TLS at all: plain text, HTTP/1.1, garbage. */
  'not_tls',
  /** TLS, but not 1.3 with ALPN h2, or it failed in another way. */
  'tls_failed',
  'handshake_timeout',
  /** The peer left during the handshake. */
  'handshake_aborted',
  'no_certificate',
  'untrusted_certificate',
  'expired_certificate',
  'not_yet_valid_certificate',
  /** A certificate without exactly one SPIFFE ID of a workload, or of another trust domain. */
  'wrong_identity',
  /** This agent has no certificate for the workload yet. */
  'no_own_certificate',
  /** Trusted, but no request in time. */
  'no_request',
  /** Trusted, but broke HTTP/2 or its limits: floods, endless headers, bad frames. */
  'protocol_error',
  /** A request other than a CONNECT to the address that was dialled. */
  'bad_request',
  /** Too many handshakes at once. */
  'overload',
] as const;
export type RefusedHandshake = (typeof refusedHandshakeKinds)[number];

type Failure = {
  /** While a TCP connection is made or accepted. */
  readonly connect?: Reason;
  /** While a TCP connection to another agent's tunnel port is made; as `connect` when absent. */
  readonly tunnel?: Reason;
  /** In a TLS handshake with another agent; `TLS_HANDSHAKE` when absent. */
  readonly handshake?: Reason;
  /** How a server counts a handshake that failed this way; `tls_failed` when absent. */
  readonly refusedAs?: RefusedHandshake;
  /** The other side does not accept our certificate: it is not the one that fails. */
  readonly isOurCertificate?: true;
};

/**
 * By error code: errnos of socket(7), connect(2) and tcp(7); verification results of openssl-verification-options(1);
 * `ERR_SSL_…`, OpenSSL's own errors and the alerts of RFC 8446 section 6.2.
 */
const failures: Readonly<Record<string, Failure>> = {
  // No agent listens on the tunnel port: it is gone, or never captured this address.
  ECONNREFUSED: { connect: 'CONNECT_REFUSED', tunnel: 'NOT_MESHED_PEER' },
  ECONNRESET: { connect: 'CONNECT_REFUSED', tunnel: 'HOST_UNREACHABLE', refusedAs: 'handshake_aborted' },
  EPIPE: { refusedAs: 'handshake_aborted' },
  ETIMEDOUT: { connect: 'CONNECT_TIMEOUT', refusedAs: 'handshake_aborted' },
  EHOSTUNREACH: { connect: 'HOST_UNREACHABLE' },
  ENETUNREACH: { connect: 'HOST_UNREACHABLE' },
  EHOSTDOWN: { connect: 'HOST_UNREACHABLE' },
  ENETDOWN: { connect: 'HOST_UNREACHABLE' },
  EAFNOSUPPORT: { connect: 'HOST_UNREACHABLE' },
  EACCES: { connect: 'HOST_UNREACHABLE' },
  EPERM: { connect: 'HOST_UNREACHABLE' },
  EMFILE: { connect: 'RESOURCE_FD' },
  ENFILE: { connect: 'RESOURCE_FD' },
  ENOBUFS: { connect: 'RESOURCE_FD' },
  ENOMEM: { connect: 'RESOURCE_FD' },
  // The ports towards one destination are used up; another destination has ports of its own.
  EADDRNOTAVAIL: { connect: 'RESOURCE_PORTS' },
  EADDRINUSE: { connect: 'RESOURCE_PORTS' },

  PEER_IDENTITY: { handshake: 'PEER_IDENTITY', refusedAs: 'wrong_identity' },
  CERT_HAS_EXPIRED: { handshake: 'CERT_EXPIRED', refusedAs: 'expired_certificate' },
  CERT_NOT_YET_VALID: { handshake: 'CERT_NOT_YET_VALID', refusedAs: 'not_yet_valid_certificate' },
  CERT_REVOKED: { handshake: 'CERT_REVOKED', refusedAs: 'untrusted_certificate' },
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_EXPIRED: { handshake: 'CERT_EXPIRED', isOurCertificate: true },
  ERR_SSL_SSLV3_ALERT_BAD_CERTIFICATE: { isOurCertificate: true },
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_REVOKED: { isOurCertificate: true },
  ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN: { isOurCertificate: true },
  ERR_SSL_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE: { isOurCertificate: true },
  ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED: { isOurCertificate: true },
  ERR_SSL_TLSV1_ALERT_ACCESS_DENIED: { isOurCertificate: true },
  ERR_SSL_TLSV1_ALERT_UNKNOWN_CA: { isOurCertificate: true },
  ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE: { refusedAs: 'no_certificate' },
  ERR_TLS_HANDSHAKE_TIMEOUT: { refusedAs: 'handshake_timeout' },
  ERR_SSL_HTTP_REQUEST: { refusedAs: 'not_tls' },
  ERR_SSL_HTTPS_PROXY_REQUEST: { refusedAs: 'not_tls' },
  ERR_SSL_WRONG_VERSION_NUMBER: { refusedAs: 'not_tls' },
  ERR_SSL_PACKET_LENGTH_TOO_LONG: { refusedAs: 'not_tls' },
  ERR_SSL_RECORD_LAYER_FAILURE: { refusedAs: 'not_tls' },
  ERR_SSL_BAD_RECORD_TYPE: { refusedAs: 'not_tls' },
  ERR_SSL_UNEXPECTED_MESSAGE: { refusedAs: 'not_tls' },
};

/** By the status of a CONNECT's answer, for an agent that names no reason: ztunnel, for example. */
const reasonByStatus: Readonly<Record<number, Reason>> = {
  401: 'POLICY_DENY',
  403: 'POLICY_DENY',
  429: 'CONN_LIMIT',
  503: 'CONNECT_REFUSED',
  504: 'CONNECT_TIMEOUT',
};

/** By the side of an open connection that broke or sent a RST. */
export const reasonByBrokenSide = { source: 'CLIENT_RESET', destination: 'PEER_RESET' } as const satisfies Record<
  string,
  Reason
>;

/** What a handshake can fail with, and so all that a peer may blame it for. */
export const handshakeReasons: ReadonlySet<Reason> = new Set<Reason>([
  'TLS_HANDSHAKE',
  ...Object.values(failures).flatMap(({ handshake }) => (handshake === undefined ? [] : [handshake])),
]);

/** The application's TCP connection failed. An unknown errno counts as unreachable. */
export function connectFailure(error: unknown, target: string): Refused {
  const code = errorCodeOf(error);
  const detail = code === '' ? `${target}: ${describeError(error)}` : `${code} ${target}`;
  return notConnected(failures[code]?.connect, detail);
}

/** The TCP connection to another agent's tunnel port failed. */
export function tunnelConnectFailure(error: unknown, address: string): Refused {
  const failure = failures[errorCodeOf(error)];
  return notConnected(failure?.tunnel ?? failure?.connect, `tunnel to ${address}: ${describeError(error)}`);
}

function notConnected(reason: Reason | undefined, detail: string): Refused {
  // An errno that no connect has: something of this host failed.
  if (reason === undefined) return notAsked('HOST_UNREACHABLE', detail);
  // Out of descriptors, this agent reaches no other endpoint either.
  if (reason === 'RESOURCE_FD') return refusedByUs(reason, detail);
  return reason === 'RESOURCE_PORTS' ? notAsked(reason, detail) : unreachable(reason, detail);
}

/** The TLS handshake failed after TCP was connected. */
export function handshakeFailure(error: unknown, address: string): Refused {
  const code = errorCodeOf(error);
  const text = describeError(error);
  const detail = code === '' || text.includes(code) ? text : `${code}: ${text}`;
  const refuse = failures[code]?.isOurCertificate === true ? notAsked : unreachable;
  return refuse(handshakeReason(code), `tunnel to ${address}: ${detail}`);
}

export function handshakeReason(code: string): Reason {
  return failures[code]?.handshake ?? 'TLS_HANDSHAKE';
}

export function refusedHandshakeOf(code: string): RefusedHandshake | undefined {
  return failures[code]?.refusedAs;
}

/**
 * The other agent answered a CONNECT with a status other than 200. The reason it claims is believed when it is in the table
 * and belongs to the status. The rest of what it says is only shown.
 */
export function answerFailure(answer: {
  readonly status: number;
  readonly reason: string;
  readonly rule: string;
  readonly address: string;
}): Refused {
  const { status, reason: claimed } = answer;
  const isBelievable = isReason(claimed) && reasonInfo(claimed).status === status;
  const reason = isBelievable ? claimed : (reasonByStatus[status] ?? 'PROTOCOL_ERROR');
  const info = reasonInfo(reason);
  const detail = `${answer.address} answered ${status}`;
  return {
    ok: false,
    reason,
    detail,
    rule: parseRuleRef(answer.rule),
    // When only the application there could not be reached, both agents had allowed the connection.
    isOtherAgents: info.side !== 'server',
    isRetryable: info.status === 503,
  };
}

/** `ECONNRESET`, `ERR_SSL_…` and the like; empty for an error without a code. */
export function errorCodeOf(error: unknown): string {
  if (typeof error !== 'object' || error === null || !('code' in error)) return '';
  return typeof error.code === 'string' ? error.code : '';
}
