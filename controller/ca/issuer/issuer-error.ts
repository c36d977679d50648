import { CulvertError } from '../../../shared/errors.js';

/**
 * Why an issuer outside this host did not sign. `ISSUER_UNREACHABLE`, `ISSUER_FAILED`, `ISSUER_SEALED` and `ISSUER_BUSY` may
 * pass by themselves, and `ISSUER_FULL` says only that too many ask; the others need someone to change something.
 */
export const issuerCodes = [
  'ISSUER_UNREACHABLE',
  'ISSUER_UNTRUSTED',
  'ISSUER_FAILED',
  'ISSUER_SEALED',
  'ISSUER_BUSY',
  'ISSUER_FULL',
  'ISSUER_DENIED',
  'ISSUER_REFUSED',
  'ISSUER_ANSWER',
  'ISSUER_UNFIT',
  'ISSUER_CREDENTIAL',
] as const;
export type IssuerCode = (typeof issuerCodes)[number];

/** Whether it may work when it is tried again at once. A sealed Vault waits for people. */
export function mayPass(error: unknown): boolean {
  return error instanceof CulvertError && ['ISSUER_UNREACHABLE', 'ISSUER_FAILED', 'ISSUER_BUSY'].includes(error.code);
}

/** Whether the issuer as a whole does not work now, in contrast to one request that it refuses. */
export function isOutage(error: unknown): boolean {
  return mayPass(error) || (error instanceof CulvertError && outages.has(error.code));
}

const outages: ReadonlySet<string> = new Set(['ISSUER_UNTRUSTED', 'ISSUER_SEALED', 'ISSUER_CREDENTIAL']);

/** What an issuer that answers says of itself: it is busy, or it fails. `retryAfterMs`: when it wants to be asked again. */
export class IssuerUnready extends CulvertError {
  readonly retryAfterMs: number | null;

  constructor(init: {
    readonly code: 'ISSUER_FAILED' | 'ISSUER_SEALED' | 'ISSUER_BUSY';
    readonly message: string;
    readonly hint: string;
    readonly retryAfterMs: number | null;
  }) {
    super(init);
    this.retryAfterMs = init.retryAfterMs;
  }
}

export function issuerError(code: IssuerCode, message: string, hint: string, cause?: unknown): CulvertError {
  return new CulvertError({ code, message, hint, ...(cause === undefined ? {} : { cause }) });
}

const maxTextLength = 300;

/** What an issuer wrote, for a log or an error: one line of printable characters, cut where it is long. */
export function quoted(text: string): string {
  const line = text.replaceAll(/[^\x20-\x7e]+/g, ' ').trim();
  return line.length > maxTextLength ? `${line.slice(0, maxTextLength)} …` : line;
}
