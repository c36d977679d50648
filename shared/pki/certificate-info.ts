import { createHash } from 'node:crypto';
import { CulvertError } from '../errors.js';
import { x509 } from './x509.js';

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

/** Reads one certificate (the first of a PEM bundle). `CERTIFICATE_INVALID` when it cannot be parsed. Decides no trust. */
export function describeCertificate(certificate: string | Uint8Array): CertificateInfo {
  const parsed = parseCertificate(certificate);
  const uri = soleUri(parsed);
  return {
    spiffeId: uri !== undefined && uri.startsWith('spiffe://') ? uri : null,
    notBeforeMs: parsed.notBefore.getTime(),
    notAfterMs: parsed.notAfter.getTime(),
    serial: parsed.serialNumber.replace(/^(?:00)+(?=..)/, ''),
    subject: parsed.subject,
    issuer: parsed.issuer,
    isCa: isCaCertificate(parsed),
  };
}

/** SHA-256 of the certificate's public key (SubjectPublicKeyInfo), hex: what a join token pins, as kubeadm does. */
export function certificateHash(certificate: string | Uint8Array): string {
  return createHash('sha256')
    .update(new Uint8Array(parseCertificate(certificate).publicKey.rawData))
    .digest('hex');
}

export function parseCertificate(certificate: string | Uint8Array): x509.X509Certificate {
  try {
    return new x509.X509Certificate(typeof certificate === 'string' ? certificate : new Uint8Array(certificate));
  } catch (cause) {
    throw new CulvertError({
      code: 'CERTIFICATE_INVALID',
      message: 'this is no X.509 certificate',
      hint: 'give a certificate in PEM (-----BEGIN CERTIFICATE-----) or DER',
      cause,
    });
  }
}

export function isCaCertificate(certificate: x509.X509Certificate): boolean {
  return certificate.getExtension(x509.BasicConstraintsExtension)?.ca === true;
}

/** The URI of a certificate that carries exactly one subject alternative name extension with exactly one URI in it. */
export function soleUri(certificate: x509.X509Certificate): string | undefined {
  const extensions = certificate.getExtensions(x509.SubjectAlternativeNameExtension);
  const uris = extensions.flatMap((extension) => extension.names.items.filter((name) => name.type === 'url'));
  return extensions.length === 1 && uris.length === 1 ? uris[0]?.value : undefined;
}
