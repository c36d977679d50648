import { createHash } from 'node:crypto';

/** The token in an Authorization header with the scheme Bearer (RFC 6750 §2.1); empty without one. */
export function bearerToken(authorization: string | undefined): string {
  return /^Bearer ([\x21-\x7e]{1,512})$/i.exec(authorization ?? '')?.[1] ?? '';
}

/** The hash of a token, which is stored and compared in its place. Tokens are random, so one round of SHA-256 is enough. */
export function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
