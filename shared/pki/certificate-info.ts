import { createHash, X509Certificate } from 'node:crypto';
import { CulvertError } from '../errors.js';
import { soleUri } from './certificate-names.js';

export type CertificateInfo = {
  /** The one URI of the subject alternative name when it is a SPIFFE ID of any shape (a node's too), else null. */
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
 * Reads one certificate (the first of a PEM bundle). `CERTIFICATE_INVALID` when it cannot be parsed. Decides no trust.
 * Every agent calls it, so it does without the library that signs certificates, which takes four megabytes of memory.
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

/** SHA-256 of the certificate's public key (SubjectPublicKeyInfo), hex: what a join token pins, as kubeadm does. */
export function certificateHash(certificate: string | Uint8Array): string {
  const spki = read(certificate).parsed.publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest('hex');
}

function read(certificate: string | Uint8Array): { parsed: X509Certificate; uri: string | undefined } {
  try {
    const parsed = new X509Certificate(certificate);
    return { parsed, uri: soleUri(parsed.raw) };
  } catch (cause) {
    throw notACertificate(cause);
  }
}

/** Node writes each part of a name on a line of its own. Undefined for an empty name. */
function onOneLine(name: string | undefined): string {
  return (name ?? '').split('\n').join(', ');
}

/** What is thrown for text or bytes that no parser takes for a certificate. */
export function notACertificate(cause: unknown): CulvertError {
  return new CulvertError({
    code: 'CERTIFICATE_INVALID',
    message: 'this is no X.509 certificate',
    hint: 'give a certificate in PEM (-----BEGIN CERTIFICATE-----) or DER',
    cause,
  });
}
