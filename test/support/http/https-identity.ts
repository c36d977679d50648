import { createRootCa } from '../../../controller/ca/x509/certificate-authority.js';
import { createServerCsr, issueServerCertificate } from '../../../controller/ca/x509/mesh-certificates.js';

/** A certificate for a server on loopback, of a CA of its own. All PEM. */
export async function httpsIdentity(): Promise<{
  readonly cert: string;
  readonly key: string;
  readonly caPem: string;
}> {
  const issuer = await createRootCa({ trustDomain: 'https.test' });
  const names = { dnsNames: ['localhost'], ipAddresses: ['127.0.0.1'] };
  const { csrPem, privateKeyPem: key } = await createServerCsr(names);
  const { chainPem: cert } = await issueServerCertificate({ issuer, csrPem, ttlMs: 3_600_000, ...names });
  return { cert, key, caPem: issuer.rootPem };
}
