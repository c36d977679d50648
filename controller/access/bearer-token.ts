import { createHash } from 'node:crypto';

/** The token of an Authorization header of the scheme Bearer (RFC 6750 §2.1); empty when there is none. */
export function bearerToken(authorization: string | undefined): string {
  return /^Bearer ([\x21-\x7e]{1,512})$/i.exec(authorization ?? '')?.[1] ?? '';
}

/** What is kept of a token and compared: tokens are random, so one round of a hash is enough. */
export function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
