import { generateKeyPairSync, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { CulvertError, describeError } from '../../shared/errors.js';
import { nodeSpiffeId, type SpiffeId } from '../../shared/identity.js';
import { onOneLine } from '../../shared/pki/certificate-info.js';
import { createCsr } from '../../shared/pki/certificate-request.js';
import { encodedNames } from '../../shared/pki/certificate-names.js';
import { problemOfIssued } from '../../shared/pki/issued-certificate.js';
import { problemOfNodeProof, signAsNode } from '../../shared/pki/node-proof.js';
import { joinCertificates, splitCertificates } from '../../shared/pki/pem.js';
import { spiffeIdOf } from '../../shared/pki/spiffe-id-of-certificate.js';
import type { NodeName } from '../../shared/routing/names.js';
import { maxSignBatch, maxWireBytes } from '../../shared/wire/requests.js';
import { handshake, type TlsEnd } from './memory-tls.js';
import type { CertificateAuthority } from './x509/certificate-authority.js';
import { issueNodeCertificate, issueServerCertificate, issueWorkloadCertificate } from './x509/mesh-certificates.js';

/** Long enough for the proof; a leaf never outlives its issuer anyway. */
const leafTtlMs = 3_600_000;
const minRsaBits = 2048;
/** What one certificate may take of an answer that carries as many as an agent asks for at once. */
const maxChainBytes = Math.floor(maxWireBytes / maxSignBatch);

/**
 * Proves that a CA can sign what the mesh needs, before anything relies on it: it issues a leaf for each use, and OpenSSL,
 * which has no part in signing, verifies each in a handshake, for its purpose and with its names. So path lengths, key
 * usages, name constraints, lifetimes, weak algorithms and all else that OpenSSL judges is judged. Throws `CA_UNUSABLE`.
 */
export async function proveAuthority(o: {
  readonly issuer: CertificateAuthority;
  readonly trustDomain: string;
  /** DNS names and IP addresses of the controller's servers. */
  readonly serverNames: readonly string[];
  readonly nowMs: number;
}): Promise<void> {
  const { issuer, trustDomain, serverNames, nowMs } = o;
  assertChain(issuer);
  const rootsPem = issuer.rootPem;
  const issuance = { issuer, ttlMs: leafTtlMs, backdateMs: 0, now: nowMs };
  const identity = `spiffe://${trustDomain}/ns/default/sa/default` as SpiffeId;
  const node = 'node' as NodeName;

  const workload: TlsEnd = await issueFor('a workload', async () => {
    const { csrPem, privateKeyPem: keyPem } = await createCsr({ identity });
    return { ...(await issueWorkloadCertificate({ ...issuance, csrPem, identity })), keyPem };
  });
  assertNames(workload.chainPem + rootsPem);
  await verify('a workload', async () => {
    assertNone(problemOfIssued({ chainPem: workload.chainPem, keyPem: workload.keyPem, spiffeId: identity, rootsPem }));
    const { ofServer, ofClient } = await handshake({ server: workload, client: workload, rootsPem, serverName: null });
    for (const der of [ofServer, ofClient]) {
      if (der === null || spiffeIdOf(der) !== identity) throw new Error('it does not carry the identity');
    }
  });

  const proof = await issueFor('a node', async () => {
    const { csrPem, privateKeyPem: keyPem } = await createCsr({ commonName: node });
    return { ...(await issueNodeCertificate({ ...issuance, csrPem, trustDomain, node })), keyPem };
  });
  await verify('a node', async () => {
    const spiffeId = nodeSpiffeId(trustDomain, node);
    assertNone(problemOfIssued({ chainPem: proof.chainPem, keyPem: proof.keyPem, spiffeId, rootsPem }));
    const bytes = Buffer.from('proof');
    const signature = signAsNode({ bytes, privateKeyPem: proof.keyPem });
    assertNone(problemOfNodeProof({ bytes, signature, chainPem: proof.chainPem, rootsPem, spiffeId, nowMs }));
    await handshake({ server: workload, client: proof, rootsPem, serverName: null });
  });

  const server = await issueFor('a server of the controller', () => issueForServer(issuance, serverNames));
  for (const serverName of serverNames) {
    await verify(`a server of the controller with the name ${serverName}`, () =>
      handshake({ server, client: null, rootsPem, serverName }),
    );
  }
}

async function issueForServer(
  issuance: Omit<Parameters<typeof issueServerCertificate>[0], 'csrPem' | 'publicKeyPem' | 'dnsNames' | 'ipAddresses'>,
  names: readonly string[],
): Promise<TlsEnd> {
  const { publicKey, privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const { chainPem } = await issueServerCertificate({
    ...issuance,
    publicKeyPem: publicKey,
    dnsNames: names.filter((name) => isIP(name) === 0),
    ipAddresses: names.filter((name) => isIP(name) !== 0),
  });
  return { chainPem, keyPem: privateKey };
}

/** What OpenSSL does not judge everywhere: keys that are too weak, and what other verifiers and the wire refuse. */
function assertChain({ certificatePem, chainPem, rootPem }: CertificateAuthority): void {
  const pems = splitCertificates(joinCertificates([certificatePem, chainPem, rootPem]));
  for (const pem of pems) {
    const { publicKey, subject } = new X509Certificate(pem);
    const bits = publicKey.asymmetricKeyDetails?.modulusLength;
    if (publicKey.asymmetricKeyType === 'rsa' && bits !== undefined && bits < minRsaBits) {
      throw unusable(`"${onOneLine(subject)}" has an RSA key of ${bits} bits; peers require at least ${minRsaBits}`);
    }
  }
}

function assertNames(chainPem: string): void {
  const names = splitCertificates(chainPem).map((pem) => encodedNames(new X509Certificate(pem).raw));
  const isWhole = names.every(({ issuer }, index) => issuer === (names[index + 1]?.subject ?? issuer));
  if (isWhole) return;
  throw unusable(
    'a certificate of its chain encodes the name of its issuer in another way than the issuer does, and verifiers that compare bytes refuse it',
  );
}

async function issueFor<T extends { readonly chainPem: string }>(what: string, issue: () => Promise<T>): Promise<T> {
  let issued: T;
  try {
    issued = await issue();
  } catch (cause) {
    throw unusable(`it cannot sign a certificate for ${what}: ${describeError(cause)}`, cause);
  }
  if (issued.chainPem.length > maxChainBytes) {
    throw unusable(
      `a certificate for ${what} has ${issued.chainPem.length} bytes with its chain, and agents take ${maxChainBytes}`,
    );
  }
  return issued;
}

async function verify(what: string, check: () => Promise<unknown>): Promise<void> {
  try {
    await check();
  } catch (cause) {
    const { code } = cause as { code?: unknown };
    const named = typeof code === 'string' && !(cause instanceof CulvertError) ? ` [${code}]` : '';
    throw unusable(`a certificate that it signs for ${what} is refused: ${describeError(cause)}${named}`, cause);
  }
}

function assertNone(problem: string | null): void {
  if (problem !== null) throw new Error(problem);
}

function unusable(why: string, cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'CA_UNUSABLE',
    message: `nothing was changed: this CA cannot sign for the mesh: ${why}`,
    hint: 'check its path length, key usages, name constraints and dates, and those of the certificates above it: openssl x509 -text',
    cause,
  });
}
