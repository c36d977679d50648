import { CulvertError } from '../../shared/errors.js';
import { issuerCodes } from '../ca/issuer/issuer-error.js';

/** HTTP status for each error code. A code that is not listed is the controller's own fault: 500. */
const statusByCode: Readonly<Record<string, number>> = {
  BAD_REQUEST: 400,
  WIRE_INVALID: 400,
  CSR_INVALID: 400,
  NKEY_INVALID: 400,
  UNAUTHORIZED: 401,
  FORBIDDEN: 403,
  TOKEN_MALFORMED: 401,
  TOKEN_UNKNOWN: 401,
  TOKEN_USED: 401,
  TOKEN_EXPIRED: 401,
  TOKEN_WRONG_NODE: 401,
  TOKEN_REVOKED: 401,
  NOT_FOUND: 404,
  METHOD_NOT_ALLOWED: 405,
  REQUEST_TIMEOUT: 408,
  USER_EXISTS: 409,
  TOO_MANY_USERS: 409,
  BODY_TOO_LARGE: 413,
  UNSUPPORTED_MEDIA_TYPE: 415,
  PAYLOAD_TOO_LARGE: 422,
  DOCUMENTS_TOO_SLOW: 422,
  DOCUMENTS_TOO_LARGE: 422,
  TOO_MUCH_WORK: 422,
  TOO_MANY_FAILURES: 429,
  TOO_MANY_JOINS: 429,
  TOO_MANY_CREDENTIALS: 429,
  NODE_REMOVED: 409,
  READER_BUSY: 503,
  ADMISSION_BUSY: 503,
  STORE_UNAVAILABLE: 503,
  STORE_FOREIGN: 503,
  PUBLISH_PENDING: 503,
  JOURNAL_WRITE: 503,
  AUDIT_WRITE: 503,
  STATE_WRITE: 503,
  CA_EXPIRED: 503,
  ...Object.fromEntries(issuerCodes.map((code) => [code, 503])),
};

export type ErrorBody = { readonly code: string; readonly message: string; readonly hint: string | null };

/** The answer for an error that a route threw. An error that is not a CulvertError is a bug: only the log has its text. */
export function toErrorAnswer(error: unknown): { readonly status: number; readonly body: ErrorBody } {
  if (!(error instanceof CulvertError)) {
    const body = {
      code: 'INTERNAL',
      message: 'the controller failed to answer this request',
      hint: 'check the log of the controller',
    };
    return { status: 500, body };
  }
  const { code, message, hint = null } = error;
  return { status: statusByCode[code] ?? 500, body: { code, message, hint } };
}

export function badRequest(message: string, hint: string): CulvertError {
  return new CulvertError({ code: 'BAD_REQUEST', message, hint });
}

export function notFound(message: string, hint: string): CulvertError {
  return new CulvertError({ code: 'NOT_FOUND', message, hint });
}
