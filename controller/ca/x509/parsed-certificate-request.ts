import { CulvertError } from '../../../shared/errors.js';
import { x509 } from './x509.js';

/** Bounds the work that a request can cause. Requests of agents have about 500 bytes. */
const maxCsrBytes = 8192;

export type CertificateRequest = {
  /** The P-256 key (SubjectPublicKeyInfo) whose possession the request proves. */
  readonly publicKey: x509.PublicKey;
};

/**
 * Checks that a request is signed by the P-256 key it contains, and returns only that key: names, usages and lifetime in
 * the request are ignored. Errors: `CSR_INVALID`.
 */
export async function parseCsr(csrPem: string): Promise<CertificateRequest> {
  if (Buffer.byteLength(csrPem) > maxCsrBytes) throw invalidCsr(`it is larger than ${maxCsrBytes} bytes`);
  let request: x509.Pkcs10CertificateRequest;
  let isSigned: boolean;
  try {
    request = new x509.Pkcs10CertificateRequest(csrPem);
    isSigned = await request.verify();
  } catch (cause) {
    throw invalidCsr('it cannot be parsed', cause);
  }
  if (!isSigned) throw invalidCsr('its signature does not match its public key');
  const algorithm = request.publicKey.algorithm as { name: string; namedCurve?: string };
  if (algorithm.name !== 'ECDSA' || algorithm.namedCurve !== 'P-256') throw invalidCsr('its key is not on P-256');
  return { publicKey: request.publicKey };
}

function invalidCsr(why: string, cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'CSR_INVALID',
    message: `the certificate request is invalid: ${why}`,
    hint: 'send a PKCS#10 request in PEM for a P-256 key, signed by that key',
    cause,
  });
}
