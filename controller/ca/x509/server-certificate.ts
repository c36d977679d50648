import type { CertificateAuthority } from './certificate-authority.js';
import { parseCsr } from './parsed-certificate-request.js';
import { issueLeaf, type IssuedCertificate } from './leaf-certificate.js';
import { x509 } from './x509.js';

/**
 * Signs the certificate of the controller's HTTPS endpoint or of nats-server. The first name is also the common name,
 * for people; clients check the alternative names. Give the request, or the public key (SubjectPublicKeyInfo, PEM).
 */
export async function issueServerCertificate(
  options: {
    readonly issuer: CertificateAuthority;
    readonly dnsNames: readonly string[];
    readonly ipAddresses: readonly string[];
    readonly ttlMs: number;
    readonly backdateMs?: number;
    readonly now?: number;
  } & ({ readonly csrPem: string } | { readonly publicKeyPem: string }),
): Promise<IssuedCertificate> {
  const publicKey =
    'csrPem' in options ? (await parseCsr(options.csrPem)).publicKey : new x509.PublicKey(options.publicKeyPem);
  const { issuer, dnsNames, ipAddresses, ttlMs } = options;
  return issueLeaf({
    issuer,
    ttlMs,
    publicKey,
    names: [
      ...dnsNames.map((value) => ({ type: 'dns', value }) as const),
      ...ipAddresses.map((value) => ({ type: 'ip', value }) as const),
    ],
    // 64 characters are the most that a common name holds (RFC 5280, appendix A.1, ub-common-name).
    commonName: (dnsNames[0] ?? ipAddresses[0] ?? 'culvert').slice(0, 64),
    usages: ['server'],
    ...(options.backdateMs === undefined ? {} : { backdateMs: options.backdateMs }),
    ...(options.now === undefined ? {} : { now: options.now }),
  });
}
