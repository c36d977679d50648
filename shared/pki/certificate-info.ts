import { createHash, X509Certificate } from 'node:crypto';
import { CulvertError } from '../errors.js';
import { soleUri } from './certificate-names.js';

export type CertificateInfo = {
  /** The only URI of the subject alternative name if it is a SPIFFE ID of any form (including a node's), else null. */
  readonly spiffeId: string | null;
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Lower-case hex, without leading zero bytes. */
  readonly serial: string;
  readonly subject: string;
  readonly issuer: string;
  readonly isCa: boolean;
};

/**
 * Parses one certificate (the first of a PEM bundle). Throws `CERTIFICATE_INVALID` if it cannot be parsed. Verifies
 * nothing. Every agent calls it, so it does not use the library that signs certificates, which takes four megabytes of
 * memory.
 */
export function describeCertificate(certificate: string | Uint8Array): CertificateInfo {
  const { parsed, uri } = read(certificate);
  return {
    spiffeId: uri?.startsWith('spiffe://') === true ? uri : null,
    notBeforeMs: Date.parse(parsed.validFrom),
    notAfterMs: Date.parse(parsed.validTo),
    serial: parsed.serialNumber.toLowerCase().replace(/^(?:00)+(?=..)/, ''),
    subject: onOneLine(parsed.subject),
    issuer: onOneLine(parsed.issuer),
    isCa: parsed.ca,
  };
}

/**
 * SHA-256 of the certificate's public key (SubjectPublicKeyInfo), hex: what a join token pins, as in kubeadm. Throws
 * `CERTIFICATE_INVALID`, also for a key that cannot be read.
 */
export function certificateHash(certificate: string | Uint8Array): string {
  return createHash('sha256').update(publicKeyOf(certificate)).digest('hex');
}

function publicKeyOf(certificate: string | Uint8Array): Buffer {
  const { parsed } = read(certificate);
  try {
    return parsed.publicKey.export({ type: 'spki', format: 'der' });
  } catch (cause) {
    throw notACertificate(cause);
  }
}

function read(certificate: string | Uint8Array): { parsed: X509Certificate; uri: string | undefined } {
  try {
    const parsed = new X509Certificate(certificate);
    return { parsed, uri: soleUri(parsed.raw) };
  } catch (cause) {
    throw notACertificate(cause);
  }
}

/** Joins the parts of a name, which Node separates by newlines. Undefined for an empty name. */
export function onOneLine(name: string | undefined): string {
  return (name ?? '').split('\n').join(', ');
}

/** The error for text or bytes that cannot be parsed as a certificate. */
export function notACertificate(cause: unknown): CulvertError {
  return new CulvertError({
    code: 'CERTIFICATE_INVALID',
    message: 'this is not an X.509 certificate',
    hint: 'pass a certificate in PEM (-----BEGIN CERTIFICATE-----) or DER',
    cause,
  });
}
