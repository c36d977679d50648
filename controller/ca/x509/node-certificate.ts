import type { CertificateAuthority } from './certificate-authority.js';
import { issueLeaf, type IssuedCertificate } from './leaf-certificate.js';
import { nodeSpiffeId } from '../../../shared/identity.js';
import { parseCsr } from './parsed-certificate-request.js';
import type { NodeName } from '../../../shared/routing/names.js';

/** Signs the certificate with which an agent proves its node to the controller (client side only). `CSR_INVALID`, `CA_EXPIRED`. */
export async function issueNodeCertificate(options: {
  readonly issuer: CertificateAuthority;
  readonly csrPem: string;
  readonly trustDomain: string;
  readonly node: NodeName;
  readonly ttlMs: number;
  readonly backdateMs?: number;
  readonly now?: number;
}): Promise<IssuedCertificate> {
  const { csrPem, trustDomain, node, ...rest } = options;
  const { publicKey } = await parseCsr(csrPem);
  const names = [{ type: 'url', value: nodeSpiffeId(trustDomain, node) }] as const;
  return issueLeaf({ ...rest, publicKey, names, usages: ['client'] });
}
