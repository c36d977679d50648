import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { CulvertError, describeError } from '../../shared/errors.js';
import { controllerSpiffeId, nodeSpiffeId, type SpiffeId } from '../../shared/identity.js';
import { onOneLine } from '../../shared/pki/certificate-info.js';
import { createCsr } from '../../shared/pki/certificate-request.js';
import { encodedNames } from '../../shared/pki/certificate-names.js';
import { problemOfIssued } from '../../shared/pki/issued-certificate.js';
import { problemOfNodeProof, signAsNode } from '../../shared/pki/node-proof.js';
import { joinCertificates, splitCertificates } from '../../shared/pki/pem.js';
import { spiffeIdOf } from '../../shared/pki/spiffe-id-of-certificate.js';
import type { NodeName } from '../../shared/routing/names.js';
import { maxSignBatch, maxWireBytes } from '../../shared/wire/requests.js';
import type { ServerRequest } from './certificate-issuer.js';
import { handshake, type TlsEnd } from './memory-tls.js';
import type { CertificateAuthority } from './x509/certificate-authority.js';
import type { IssuedCertificate } from './x509/leaf-certificate.js';
import {
  createServerCsr,
  issueNodeCertificate,
  issueServerCertificate,
  issueWorkloadCertificate,
} from './x509/mesh-certificates.js';

/** Long enough for the proof; a leaf never outlives its issuer anyway. */
const leafTtlMs = 3_600_000;
const minRsaBits = 2048;
/** What one certificate may take of an answer that carries as many as an agent asks for at once. */
const maxChainBytes = Math.floor(maxWireBytes / maxSignBatch);

/** The node in certificates that only prove something. */
export const proofNode = 'node' as NodeName;

/** How certificates are signed for the proof. */
export type Signing = {
  readonly workload: (request: { readonly csrPem: string; readonly identity: SpiffeId }) => Promise<IssuedCertificate>;
  readonly node: (request: { readonly csrPem: string; readonly node: NodeName }) => Promise<IssuedCertificate>;
  readonly server: (request: ServerRequest) => Promise<IssuedCertificate>;
};

type Proof = {
  readonly trustDomain: string;
  /** DNS names and IP addresses of the controller's servers. */
  readonly serverNames: readonly string[];
  readonly nowMs: () => number;
};

/** Proves that a CA whose key is here can sign for the mesh, see {@link proveSigning}. Throws `CA_UNUSABLE`. */
export async function proveAuthority(o: Proof & { readonly issuer: CertificateAuthority }): Promise<void> {
  const { issuer, trustDomain } = o;
  const issuance = { issuer, ttlMs: leafTtlMs, backdateMs: 0, now: o.nowMs() };
  assertKeys(joinCertificates([issuer.certificatePem, issuer.chainPem, issuer.rootPem]));
  await proveSigning({
    ...o,
    rootPem: issuer.rootPem,
    sign: {
      workload: (request) => issueWorkloadCertificate({ ...issuance, ...request }),
      node: (request) => issueNodeCertificate({ ...issuance, ...request, trustDomain }),
      server: (request) => issueServerCertificate({ ...issuance, ...request }),
    },
  });
}

/**
 * Proves that a CA can sign what the mesh needs, before anything relies on it: it issues a leaf for each use, and OpenSSL,
 * which has no part in signing, verifies each in a handshake, for its purpose and with its names. So path lengths, key
 * usages, name constraints, lifetimes, weak algorithms and all else that OpenSSL judges is judged. `rootPem`: at which they must
 * end; a function: known when the first is signed. Throws `CA_UNUSABLE`, and what `sign` throws if it says what to do.
 */
export async function proveSigning(
  o: Proof & { readonly sign: Signing; readonly rootPem: string | (() => string) },
): Promise<void> {
  const { sign, trustDomain, serverNames, nowMs } = o;
  const identity = `spiffe://${trustDomain}/ns/default/sa/default` as SpiffeId;
  const node = proofNode;

  const workload: TlsEnd = await issueFor('a workload', async () => {
    const { csrPem, privateKeyPem: keyPem } = await createCsr({ identity });
    return { ...(await sign.workload({ csrPem, identity })), keyPem };
  });
  const rootsPem = typeof o.rootPem === 'string' ? o.rootPem : o.rootPem();
  assertKeys(workload.chainPem + rootsPem);
  assertNames(workload.chainPem + rootsPem);
  await verify('a workload', async () => {
    assertNone(problemOfIssued({ chainPem: workload.chainPem, keyPem: workload.keyPem, spiffeId: identity, rootsPem }));
    const { ofServer, ofClient } = await handshake({ server: workload, client: workload, rootsPem, serverName: null });
    for (const der of [ofServer, ofClient]) {
      if (der === null || spiffeIdOf(der) !== identity) throw new Error('it does not carry the identity');
    }
  });

  const spiffeId = nodeSpiffeId(trustDomain, node);
  const proof = await issueFor('a node', async () => {
    const { csrPem, privateKeyPem: keyPem } = await createCsr({ identity: spiffeId });
    return { ...(await sign.node({ csrPem, node })), keyPem };
  });
  await verify('a node', async () => {
    assertNone(problemOfIssued({ chainPem: proof.chainPem, keyPem: proof.keyPem, spiffeId, rootsPem }));
    const bytes = Buffer.from('proof');
    const signature = signAsNode({ bytes, privateKeyPem: proof.keyPem });
    assertNone(problemOfNodeProof({ bytes, signature, chainPem: proof.chainPem, rootsPem, spiffeId, nowMs: nowMs() }));
    await handshake({ server: workload, client: proof, rootsPem, serverName: null });
  });

  const server = await issueFor('a server of the controller', async () => {
    const names = {
      dnsNames: serverNames.filter((name) => isIP(name) === 0),
      ipAddresses: serverNames.filter((name) => isIP(name) !== 0),
      spiffeId: controllerSpiffeId(trustDomain),
    };
    const { csrPem, privateKeyPem: keyPem } = await createServerCsr(names);
    return { ...(await sign.server({ csrPem, ...names })), keyPem };
  });
  for (const serverName of serverNames) {
    await verify(`a server of the controller with the name ${serverName}`, () =>
      handshake({ server, client: null, rootsPem, serverName }),
    );
  }
}

/** What OpenSSL does not judge everywhere: keys that are too weak, and what other verifiers and the wire refuse. */
function assertKeys(chainPem: string): void {
  for (const pem of splitCertificates(chainPem)) {
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
    if (cause instanceof CulvertError && cause.code.startsWith('ISSUER_')) throw cause;
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
