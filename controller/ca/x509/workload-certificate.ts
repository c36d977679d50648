import { CulvertError } from '../../../shared/errors.js';
import { parseSpiffeId, type SpiffeId } from '../../../shared/identity.js';
import type { CertificateAuthority } from './certificate-authority.js';
import { parseCsr } from './parsed-certificate-request.js';
import { issueLeaf, type IssuedCertificate } from './leaf-certificate.js';

/**
 * Signs the certificate of a workload: its SPIFFE ID as the only name, for both ends of TLS. Whether the requester may
 * have this identity is the caller's decision, made before. `CSR_INVALID`, `IDENTITY_INVALID`, `CA_EXPIRED`.
 */
export async function issueWorkloadCertificate(options: {
  readonly issuer: CertificateAuthority;
  readonly csrPem: string;
  readonly identity: SpiffeId;
  readonly ttlMs: number;
  readonly backdateMs?: number;
  readonly now?: number;
}): Promise<IssuedCertificate> {
  if (parseSpiffeId(options.identity) === undefined) {
    throw new CulvertError({
      code: 'IDENTITY_INVALID',
      message: `"${options.identity}" is no workload identity`,
      hint: 'use spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT in lower case',
    });
  }
  const { csrPem, identity, ...rest } = options;
  const { publicKey } = await parseCsr(csrPem);
  return issueLeaf({ ...rest, publicKey, names: [{ type: 'url', value: identity }], usages: ['server', 'client'] });
}
