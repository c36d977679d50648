import { notACertificate } from '../../../shared/pki/certificate-info.js';
import { x509 } from './x509.js';

/** A certificate as the library has it that signs others. `CERTIFICATE_INVALID` when it cannot be parsed. */
export function parseCertificate(certificate: string | Uint8Array): x509.X509Certificate {
  try {
    return new x509.X509Certificate(typeof certificate === 'string' ? certificate : new Uint8Array(certificate));
  } catch (cause) {
    throw notACertificate(cause);
  }
}

export function isCaCertificate(certificate: x509.X509Certificate): boolean {
  return certificate.getExtension(x509.BasicConstraintsExtension)?.ca === true;
}
