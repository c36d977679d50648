import { CulvertError } from '../../../shared/errors.js';
import { nodeSpiffeId, parseSpiffeId, type SpiffeId } from '../../../shared/identity.js';
import type { NodeName } from '../../../shared/routing/names.js';
import { issueLeaf, type IssuedCertificate, type LeafRequest } from './leaf-certificate.js';
import { exportPrivateKey, generateKeyPair, keyAlgorithm } from './key-pair.js';
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
 * for people; clients check the alternative names. Errors: `CSR_INVALID`, `CA_EXPIRED`.
 */
export async function issueServerCertificate(
  options: Issuance & {
    readonly csrPem: string;
    readonly dnsNames: readonly string[];
    readonly ipAddresses: readonly string[];
    readonly spiffeId?: string;
  },
): Promise<IssuedCertificate> {
  const { csrPem, issuer, dnsNames, ipAddresses, ttlMs } = options;
  const { publicKey } = await parseCsr(csrPem);
  return issueLeaf({
    issuer,
    ttlMs,
    publicKey,
    names: serverNames(options),
    // A common name holds at most 64 characters (RFC 5280, appendix A.1, ub-common-name).
    commonName: (dnsNames[0] ?? ipAddresses[0] ?? 'culvert').slice(0, 64),
    usages: ['server'],
    ...(options.backdateMs === undefined ? {} : { backdateMs: options.backdateMs }),
    ...(options.now === undefined ? {} : { now: options.now }),
  });
}

/** A new P-256 key for a server, and a request for it with exactly these names and no subject. */
export async function createServerCsr(names: ServerNames): Promise<{ csrPem: string; privateKeyPem: string }> {
  const keys = await generateKeyPair();
  const request = await x509.Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: keyAlgorithm,
    extensions: [new x509.SubjectAlternativeNameExtension(serverNames(names), true)],
  });
  return { csrPem: `${request.toString('pem')}\n`, privateKeyPem: exportPrivateKey(keys.privateKey) };
}

type ServerNames = {
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
  readonly spiffeId?: string;
};

function serverNames({
  dnsNames,
  ipAddresses,
  spiffeId,
}: ServerNames): { type: 'dns' | 'ip' | 'url'; value: string }[] {
  return [
    ...dnsNames.map((value) => ({ type: 'dns', value }) as const),
    ...ipAddresses.map((value) => ({ type: 'ip', value }) as const),
    ...(spiffeId === undefined ? [] : [{ type: 'url', value: spiffeId } as const]),
  ];
}
