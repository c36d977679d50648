import { NatsError } from 'nats';
import { CulvertError } from '../errors.js';

export type BusErrorCode =
  | 'BUS_DISCONNECTED'
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
  BUS_DISCONNECTED: 'check that nats-server runs and can be reached; the connection comes back by itself',
  BUS_TIMEOUT: 'check that the controller runs and how busy it is, then try again',
  BUS_NO_RESPONDERS: 'start the controller: nobody answers on this subject',
  BUS_DENIED: 'use credentials whose permissions cover it; an agent may use its own subjects only',
  BUS_PAYLOAD_TOO_LARGE: 'raise max_payload of nats-server to 8MB, or publish less at once',
  BUS_STORE_FULL: 'free disk space on the host of nats-server or raise the limits of its JetStream account',
  BUS_NOT_FOUND: 'start the controller once: it creates the buckets and streams; check that JetStream is enabled',
  BUS_CONFLICT: 'read the key again and repeat the change on what it holds now',
  BUS_OVERLOADED: 'the sender tries again; if it lasts, look for an agent that asks in a loop',
  BUS_FAILED: 'look at the log of nats-server',
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

/** What any failure of the `nats` package is called here. `what` says what was tried, as in "cannot read the key x". */
export function toBusError(what: string, error: unknown): CulvertError {
  if (error instanceof CulvertError) return error;
  const text = error instanceof Error ? error.message : String(error);
  if (!(error instanceof NatsError)) return busError('BUS_FAILED', `${what}: ${text}`, error);
  const apiError = error.jsError();
  const code = codesOfApiErrors[apiError?.err_code ?? 0] ?? codesOfClientErrors[error.code] ?? 'BUS_FAILED';
  return busError(code, `${what}: ${apiError?.description ?? (text === '503' ? 'nobody answers' : text)}`, error);
}

/** A failure of the store itself: there, "nobody answers" means that the bucket or stream is not there. */
export function toStoreError(what: string, error: unknown): CulvertError {
  const mapped = toBusError(what, error);
  return mapped.code === 'BUS_NO_RESPONDERS' ? busError('BUS_NOT_FOUND', mapped.message, error) : mapped;
}
