// tsyringe inside @peculiar/x509 needs the metadata API before the library loads, hence the order of imports.
import 'reflect-metadata';
import { randomBytes, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { notACertificate } from '../../../shared/pki/certificate-info.js';

x509.cryptoProvider.set(webcrypto as never);

/** `@peculiar/x509` on Node's WebCrypto. Only this file imports the library. */
export { x509 };

/** Parses a certificate into the library's form, which can sign others. Errors: `CERTIFICATE_INVALID`. */
export function parseCertificate(certificate: string | Uint8Array): x509.X509Certificate {
  try {
    return new x509.X509Certificate(typeof certificate === 'string' ? certificate : new Uint8Array(certificate));
  } catch (cause) {
    throw notACertificate(cause);
  }
}

/**
 * A new random serial number in hex: 20 bytes, positive, not zero, and still 20 bytes when encoded (RFC 5280, section
 * 4.1.2.2).
 */
export function newSerial(): string {
  const bytes = randomBytes(20);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return bytes.toString('hex');
}
