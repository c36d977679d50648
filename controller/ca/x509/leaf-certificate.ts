import { CulvertError } from '../../../shared/errors.js';
import { assertCanSign, defaultBackdateMs, type CertificateAuthority } from './certificate-authority.js';
import { authorityKeyIdentifier } from './authority-key-identifier.js';
import { importPrivateKey } from './key-pair.js';
import { newSerial, parseCertificate, x509 } from './x509.js';

export type IssuedCertificate = {
  /** The leaf, then the CA certificates up to the root, without the root, as a TLS server or client sends them. */
  readonly chainPem: string;
  readonly notAfterMs: number;
  /** Hex. */
  readonly serial: string;
};

export type LeafRequest = {
  readonly issuer: CertificateAuthority;
  readonly publicKey: x509.PublicKey;
  readonly names: readonly { readonly type: 'url' | 'dns' | 'ip'; readonly value: string }[];
  /** Without it the subject alternative name is critical (RFC 5280, section 4.2.1.6). */
  readonly commonName?: string;
  readonly usages: readonly ('server' | 'client')[];
  readonly ttlMs: number;
  readonly backdateMs?: number;
  readonly now?: number;
};

/**
 * Signs a leaf. It never outlives the certificates above it. Errors: `CA_EXPIRED`; `TTL_INVALID` for a lifetime below
 * one second.
 */
export async function issueLeaf(request: LeafRequest): Promise<IssuedCertificate> {
  const now = request.now ?? Date.now();
  assertCanSign(request.issuer, now);
  if (!(request.ttlMs >= 1000)) {
    throw new CulvertError({
      code: 'TTL_INVALID',
      message: `a certificate cannot be valid for ${request.ttlMs} ms`,
      hint: 'set the lifetime to 1s or more, for example 24h',
    });
  }
  const issuer = parseCertificate(request.issuer.certificatePem);
  const issuerKeys = await importPrivateKey(request.issuer.privateKeyPem);
  const usages = { server: x509.ExtendedKeyUsage.serverAuth, client: x509.ExtendedKeyUsage.clientAuth };
  const certificate = await x509.X509CertificateGenerator.create({
    publicKey: request.publicKey,
    signingKey: issuerKeys.privateKey,
    subject: request.commonName === undefined ? [] : [{ CN: [request.commonName] }],
    issuer: issuer.subjectName,
    serialNumber: newSerial(),
    notBefore: new Date(Math.max(now - (request.backdateMs ?? defaultBackdateMs), issuer.notBefore.getTime())),
    notAfter: new Date(Math.min(now + request.ttlMs, request.issuer.notAfterMs)),
    signingAlgorithm: issuerKeys.algorithm,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(request.usages.map((usage) => usages[usage])),
      new x509.SubjectAlternativeNameExtension([...request.names], request.commonName === undefined),
      await x509.SubjectKeyIdentifierExtension.create(request.publicKey),
      await authorityKeyIdentifier(issuer),
    ],
  });
  return {
    chainPem: `${certificate.toString('pem')}\n${request.issuer.chainPem}`,
    notAfterMs: certificate.notAfter.getTime(),
    serial: certificate.serialNumber,
  };
}
