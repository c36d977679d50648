import { ErrorCode, NatsError } from 'nats';
import { CulvertError } from '../errors.js';
import { isTlsFailure } from '../tls-failure.js';
import type { StoreGuard } from './bus.js';

export type BusErrorCode =
  | 'BUS_DISCONNECTED'
  | 'BUS_UNTRUSTED'
  | 'BUS_REFUSED'
  | 'BUS_TIMEOUT'
  | 'BUS_NO_RESPONDERS'
  | 'BUS_DENIED'
  | 'BUS_PAYLOAD_TOO_LARGE'
  | 'BUS_STORE_FULL'
  | 'BUS_NOT_FOUND'
  | 'BUS_CONFLICT'
  | 'BUS_OVERLOADED'
  | 'BUS_FAILED';

const hints: Readonly<Record<BusErrorCode, string>> = {
  BUS_DISCONNECTED: 'check that nats-server runs and is reachable; the connection comes back by itself',
  BUS_UNTRUSTED:
    'TLS refused the certificate of nats-server: it must be valid now and end at a root that is trusted here; compare the clocks and the roots',
  BUS_REFUSED:
    'it was revoked (culvert node remove) or has expired; agent: create a token with culvert token create --node NODE, stop the agent, run culvert-agent join with the token, start the agent; controller: replace its .creds file',
  BUS_TIMEOUT: 'check that the controller runs and how busy it is, then try again',
  BUS_NO_RESPONDERS: 'start the controller: there is no responder on this subject',
  BUS_DENIED: 'use credentials with permissions for it; an agent may use only its own subjects',
  BUS_PAYLOAD_TOO_LARGE: 'raise max_payload of nats-server to 8MB, or publish less at once',
  BUS_STORE_FULL: 'free disk space on the host of nats-server or raise the limits of its JetStream account',
  BUS_NOT_FOUND: 'start the controller once: it creates the buckets and streams; check that JetStream is enabled',
  BUS_CONFLICT: 'read the key again and repeat the change on its new value',
  BUS_OVERLOADED: 'the sender tries again; if it persists, look for an agent that sends requests in a loop',
  BUS_FAILED: 'check the log of nats-server',
};

/** JetStream's own error numbers (nats-server, server/errors.json). */
const codesOfApiErrors: Readonly<Record<number, BusErrorCode>> = {
  10023: 'BUS_STORE_FULL',
  10025: 'BUS_STORE_FULL',
  10028: 'BUS_STORE_FULL',
  10039: 'BUS_NOT_FOUND',
  10047: 'BUS_STORE_FULL',
  10053: 'BUS_PAYLOAD_TOO_LARGE',
  10054: 'BUS_PAYLOAD_TOO_LARGE',
  10059: 'BUS_NOT_FOUND',
  10071: 'BUS_CONFLICT',
  10076: 'BUS_NOT_FOUND',
  10077: 'BUS_STORE_FULL',
};

/** The refusals of a credential, by the client's codes, in the words of nats-server. */
const refusals: Readonly<Record<string, string>> = {
  [ErrorCode.AuthorizationViolation]: 'Authorization Violation',
  [ErrorCode.AuthenticationExpired]: 'User Authentication Expired',
  [ErrorCode.AccountExpired]: 'Account Authentication Expired',
};

const codesOfClientErrors: Readonly<Record<string, BusErrorCode>> = {
  '503': 'BUS_NO_RESPONDERS',
  TIMEOUT: 'BUS_TIMEOUT',
  PERMISSIONS_VIOLATION: 'BUS_DENIED',
  MAX_PAYLOAD_EXCEEDED: 'BUS_PAYLOAD_TOO_LARGE',
  CONNECTION_CLOSED: 'BUS_DISCONNECTED',
  CONNECTION_DRAINING: 'BUS_DISCONNECTED',
  CONNECTION_REFUSED: 'BUS_DISCONNECTED',
  CONNECTION_TIMEOUT: 'BUS_DISCONNECTED',
  DISCONNECT: 'BUS_DISCONNECTED',
};

export function busError(code: BusErrorCode, message: string, cause?: unknown): CulvertError {
  return new CulvertError({ code, message, hint: hints[code], cause });
}

/** Converts any error of the `nats` package. `what` says what failed, as in "cannot read the key x". */
export function toBusError(what: string, error: unknown): CulvertError {
  if (error instanceof CulvertError) return error;
  const text = error instanceof Error ? error.message : String(error);
  if (isTlsFailure(error)) return busError('BUS_UNTRUSTED', `${what}: TLS: ${text}`, error);
  if (!(error instanceof NatsError)) return busError('BUS_FAILED', `${what}: ${text}`, error);
  const refusal = refusals[error.code];
  if (refusal !== undefined) {
    return busError('BUS_REFUSED', `${what}: nats-server refuses the credential: ${refusal}`, error);
  }
  const apiError = error.jsError();
  const code = codesOfApiErrors[apiError?.err_code ?? 0] ?? codesOfClientErrors[error.code] ?? 'BUS_FAILED';
  return busError(
    code,
    `${what}: ${apiError?.description ?? (text === '503' ? 'there is no responder' : text)}`,
    error,
  );
}

/** Converts an error of dialling: what is neither TLS nor an answer of the server means that it was not reached. */
export function toDialError(what: string, error: unknown): CulvertError {
  const mapped = toBusError(what, error);
  const isUnreached = mapped.code === 'BUS_FAILED' && !(error instanceof NatsError);
  return isUnreached ? busError('BUS_DISCONNECTED', mapped.message, error) : mapped;
}

/** Converts an error that the server sent, of which the client's status has only the code. */
export function toServerError(what: string, code: string): CulvertError {
  return toBusError(what, new NatsError(code, code));
}

/** A store that does not answer is nats-server's; only a request of an agent is answered by the controller. */
const storeTimeoutHint = 'check that nats-server is not overloaded and that its disk is neither full nor failing';

/** Converts an error of the store, where "no responder" means that the bucket or stream does not exist. */
export function toStoreError(what: string, error: unknown): CulvertError {
  const mapped = toBusError(what, error);
  if (mapped.code === 'BUS_NO_RESPONDERS') return busError('BUS_NOT_FOUND', mapped.message, error);
  if (mapped.code !== 'BUS_TIMEOUT') return mapped;
  return new CulvertError({
    code: 'BUS_TIMEOUT',
    message: mapped.message.replace(/: TIMEOUT$/, ': no answer in time'),
    hint: storeTimeoutHint,
    cause: error,
  });
}

/** Errors whose text does not say what is wrong with the store. */
const unclear: ReadonlySet<string> = new Set<BusErrorCode>([
  'BUS_TIMEOUT',
  'BUS_STORE_FULL',
  'BUS_NOT_FOUND',
  'BUS_FAILED',
] as const);

/** The error for a failed operation of the store, as its owner explains it. `unwritten`: as {@link StoreGuard} has it. */
export async function explainedStoreError(
  what: string,
  error: unknown,
  guard: StoreGuard,
  unwritten?: string,
): Promise<CulvertError> {
  const mapped = toStoreError(what, error);
  return unclear.has(mapped.code) ? await guard.explain(mapped, unwritten) : mapped;
}
