import { describeError } from '../../../shared/errors.js';
import type { Reason } from '../../../shared/reasons.js';

/** A dial that did not succeed. `isRetryable`: another endpoint may do better. */
export type ConnectFailure = {
  readonly ok: false;
  readonly reason: Reason;
  readonly rule?: string;
  readonly detail: string;
  readonly isRetryable: boolean;
};

/** From the errno names of socket(7), connect(2) and tcp(7) to the closed table of reasons. */
const reasonByErrno: Readonly<Record<string, { readonly reason: Reason; readonly isRetryable: boolean }>> = {
  ECONNREFUSED: { reason: 'CONNECT_REFUSED', isRetryable: true },
  ECONNRESET: { reason: 'CONNECT_REFUSED', isRetryable: true },
  ETIMEDOUT: { reason: 'CONNECT_TIMEOUT', isRetryable: true },
  EHOSTUNREACH: { reason: 'HOST_UNREACHABLE', isRetryable: true },
  ENETUNREACH: { reason: 'HOST_UNREACHABLE', isRetryable: true },
  EHOSTDOWN: { reason: 'HOST_UNREACHABLE', isRetryable: true },
  ENETDOWN: { reason: 'HOST_UNREACHABLE', isRetryable: true },
  EAFNOSUPPORT: { reason: 'HOST_UNREACHABLE', isRetryable: true },
  EACCES: { reason: 'HOST_UNREACHABLE', isRetryable: true },
  EPERM: { reason: 'HOST_UNREACHABLE', isRetryable: true },
  EMFILE: { reason: 'RESOURCE_FD', isRetryable: false },
  ENFILE: { reason: 'RESOURCE_FD', isRetryable: false },
  ENOBUFS: { reason: 'RESOURCE_FD', isRetryable: false },
  ENOMEM: { reason: 'RESOURCE_FD', isRetryable: false },
  // The ports are used up towards one destination; another one has ports of its own.
  EADDRNOTAVAIL: { reason: 'RESOURCE_PORTS', isRetryable: true },
};

/** What a thrown or emitted connect error means. An errno that is not in the table counts as unreachable. */
export function connectFailure(error: unknown, target: string): ConnectFailure {
  const code = errnoOf(error);
  const known = code === undefined ? undefined : reasonByErrno[code];
  return {
    ok: false,
    reason: known?.reason ?? 'HOST_UNREACHABLE',
    isRetryable: known?.isRetryable ?? true,
    detail: code === undefined ? `${target}: ${describeError(error)}` : `${code} ${target}`,
  };
}

function errnoOf(error: unknown): string | undefined {
  if (typeof error !== 'object' || error === null || !('code' in error)) return undefined;
  return typeof error.code === 'string' ? error.code : undefined;
}
