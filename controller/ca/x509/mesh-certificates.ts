import { CulvertError } from '../../../shared/errors.js';
import { parseSpiffeId, type SpiffeId } from '../../../shared/identity.js';
import { nodeSpiffeId } from '../../../shared/identity.js';
import type { NodeName } from '../../../shared/routing/names.js';
import { issueLeaf, type IssuedCertificate, type LeafRequest } from './leaf-certificate.js';
import { parseCsr } from './parsed-certificate-request.js';
import { x509 } from './x509.js';

/** The three kinds of certificate that the mesh CA issues: for workloads, for nodes and for the controller's servers. */
type Issuance = Pick<LeafRequest, 'issuer' | 'ttlMs' | 'backdateMs' | 'now'>;

/**
 * Signs the certificate of a workload. Its only name is the SPIFFE ID; it serves both ends of TLS. The caller has already
 * decided that the requester may have this identity. Errors: `CSR_INVALID`, `IDENTITY_INVALID`, `CA_EXPIRED`.
 */
export async function issueWorkloadCertificate(
  options: Issuance & { readonly csrPem: string; readonly identity: SpiffeId },
): Promise<IssuedCertificate> {
  const { csrPem, identity, ...issuance } = options;
  if (parseSpiffeId(identity) === undefined) {
    throw new CulvertError({
      code: 'IDENTITY_INVALID',
      message: `"${identity}" is not a workload identity`,
      hint: 'use spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT in lower case',
    });
  }
  const { publicKey } = await parseCsr(csrPem);
  return issueLeaf({ ...issuance, publicKey, names: [{ type: 'url', value: identity }], usages: ['server', 'client'] });
}

/** Signs the certificate that proves a node to the controller (TLS client only). Errors: `CSR_INVALID`, `CA_EXPIRED`. */
export async function issueNodeCertificate(
  options: Issuance & { readonly csrPem: string; readonly trustDomain: string; readonly node: NodeName },
): Promise<IssuedCertificate> {
  const { csrPem, trustDomain, node, ...issuance } = options;
  const { publicKey } = await parseCsr(csrPem);
  const names = [{ type: 'url', value: nodeSpiffeId(trustDomain, node) }] as const;
  return issueLeaf({ ...issuance, publicKey, names, usages: ['client'] });
}

/**
 * Signs the certificate of the controller's HTTPS endpoint or of nats-server. The first name is also the common name,
 * for people; clients check the alternative names. Takes a certificate request or a public key (SubjectPublicKeyInfo,
 * PEM).
 */
export async function issueServerCertificate(
  options: Issuance & { readonly dnsNames: readonly string[]; readonly ipAddresses: readonly string[] } & (
      { readonly csrPem: string } | { readonly publicKeyPem: string }
    ),
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
    // A common name holds at most 64 characters (RFC 5280, appendix A.1, ub-common-name).
    commonName: (dnsNames[0] ?? ipAddresses[0] ?? 'culvert').slice(0, 64),
    usages: ['server'],
    ...(options.backdateMs === undefined ? {} : { backdateMs: options.backdateMs }),
    ...(options.now === undefined ? {} : { now: options.now }),
  });
}
