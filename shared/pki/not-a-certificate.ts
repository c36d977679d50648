import { CulvertError } from '../errors.js';

/** What is thrown for text or bytes that no parser takes for a certificate. */
export function notACertificate(cause: unknown): CulvertError {
  return new CulvertError({
    code: 'CERTIFICATE_INVALID',
    message: 'this is no X.509 certificate',
    hint: 'give a certificate in PEM (-----BEGIN CERTIFICATE-----) or DER',
    cause,
  });
}
