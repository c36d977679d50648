import { CulvertError } from '../../../shared/errors.js';
import type { CertificateExtension } from '../../../shared/pki/certificate-names.js';
import { derTag, readDerChildren } from '../../../shared/pki/der-reader.js';
import { x509 } from './x509.js';

/** Bounds the work that a request can cause. Requests of agents have about 500 bytes. */
const maxCsrBytes = 8192;

export type CertificateRequest = {
  /** The P-256 key (SubjectPublicKeyInfo) whose possession the request proves. */
  readonly publicKey: x509.PublicKey;
  /** The distinguished name, as text; empty: none. */
  readonly subject: string;
  /** Object identifiers of its attributes. */
  readonly attributes: readonly string[];
  /** What it wants the certificate to have; the oid in hex of the DER, as in certificates. */
  readonly extensions: readonly CertificateExtension[];
};

/**
 * Checks that a request is signed by the P-256 key it contains. Only this key counts: what else is in the request matters where
 * an issuer elsewhere reads it too. Errors: `CSR_INVALID`.
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
  try {
    return { publicKey: request.publicKey, ...askedIn(request) };
  } catch (cause) {
    throw invalidCsr('what it asks for cannot be parsed', cause);
  }
}

function askedIn(request: x509.Pkcs10CertificateRequest): Omit<CertificateRequest, 'publicKey'> {
  return {
    subject: request.subject,
    attributes: request.attributes.map(({ type }) => type),
    extensions: request.extensions.map(({ rawData, value }) => {
      const [oid] = readDerChildren(new Uint8Array(rawData), derTag.sequence);
      return { oid: Buffer.from(oid?.contents ?? []).toString('hex'), value: new Uint8Array(value) };
    }),
  };
}

/** The error for a request that nothing can be signed for. */
export function invalidCsr(why: string, cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'CSR_INVALID',
    message: `the certificate request is invalid: ${why}`,
    hint: 'send a PKCS#10 request in PEM for a P-256 key, signed by that key',
    cause,
  });
}
