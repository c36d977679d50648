import { X509Certificate, type webcrypto } from 'node:crypto';
import { CulvertError } from '../../../shared/errors.js';
import { describeCertificate, notACertificate, onOneLine } from '../../../shared/pki/certificate-info.js';
import { authorityKeyIdentifier } from './authority-key-identifier.js';
import { exportPrivateKey, generateKeyPair, importPrivateKey, isKeyOf, keyAlgorithm } from './key-pair.js';
import { der, derTree } from '../../../shared/pki/der-writer.js';
import { encodePem, joinCertificates, splitCertificates } from '../../../shared/pki/pem.js';
import { newSerial, parseCertificate, x509 } from './x509.js';

/** A key that signs certificates, and its chain to the root. Plain data: store `privateKeyPem` with mode 0600. */
export type CertificateAuthority = {
  readonly certificatePem: string;
  /** PKCS#8. */
  readonly privateKeyPem: string;
  /**
   * The certificates that are sent after a leaf of this authority: its own and those above it, without the root. Empty
   * for a root.
   */
  readonly chainPem: string;
  /** The trust anchor. */
  readonly rootPem: string;
  /** When the first certificate of the chain expires, its own and the root included. */
  readonly notAfterMs: number;
};

const nameConstraintsOid = '2.5.29.30';
const dayMs = 86_400_000;
const rootValidForMs = 3650 * dayMs;
const issuingValidForMs = 365 * dayMs;
/** A certificate is valid from a little before it was created, because the clocks of hosts differ. */
export const defaultBackdateMs = 300_000;

/**
 * Creates a self-signed root, below which there is one issuing CA at most, and identities of this trust domain only. `now` is in
 * milliseconds since the epoch.
 */
export async function createRootCa(options: {
  readonly trustDomain: string;
  readonly validForMs?: number;
  readonly now?: number;
}): Promise<CertificateAuthority> {
  const now = options.now ?? Date.now();
  const keys = await generateKeyPair();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    keys,
    name: [{ O: ['Culvert'] }, { CN: [`${options.trustDomain} root ${new Date(now).toISOString().slice(0, 10)}`] }],
    serialNumber: newSerial(),
    notBefore: new Date(now - defaultBackdateMs),
    notAfter: new Date(now + (options.validForMs ?? rootValidForMs)),
    signingAlgorithm: keyAlgorithm,
    extensions: await caExtensions(
      keys.publicKey,
      { pathLength: 1, trustDomain: options.trustDomain },
      await x509.AuthorityKeyIdentifierExtension.create(keys.publicKey),
    ),
  });
  const certificatePem = `${certificate.toString('pem')}\n`;
  return {
    certificatePem,
    privateKeyPem: exportPrivateKey(keys.privateKey),
    chainPem: '',
    rootPem: certificatePem,
    notAfterMs: certificate.notAfter.getTime(),
  };
}

/**
 * Creates an authority under `root` that may sign only leaves (path length 0), with identities of this trust domain only. It
 * never outlives the root.
 */
export async function createIssuingCa(options: {
  readonly root: CertificateAuthority;
  readonly trustDomain: string;
  readonly validForMs?: number;
  readonly now?: number;
}): Promise<CertificateAuthority> {
  const now = options.now ?? Date.now();
  assertCanSign(options.root, now);
  const issuer = parseCertificate(options.root.certificatePem);
  const issuerKeys = await importPrivateKey(options.root.privateKeyPem);
  const keys = await generateKeyPair();
  const wantedMs = now + (options.validForMs ?? issuingValidForMs);
  const certificate = await x509.X509CertificateGenerator.create({
    publicKey: keys.publicKey,
    signingKey: issuerKeys.privateKey,
    subject: [
      { O: ['Culvert'] },
      { CN: [`${options.trustDomain} issuing ${new Date(now).toISOString().slice(0, 10)}`] },
    ],
    issuer: issuer.subjectName,
    serialNumber: newSerial(),
    notBefore: new Date(Math.max(now - defaultBackdateMs, issuer.notBefore.getTime())),
    notAfter: new Date(Math.min(wantedMs, options.root.notAfterMs)),
    signingAlgorithm: issuerKeys.algorithm,
    extensions: await caExtensions(
      keys.publicKey,
      { pathLength: 0, trustDomain: options.trustDomain },
      await authorityKeyIdentifier(issuer),
    ),
  });
  const certificatePem = `${certificate.toString('pem')}\n`;
  return {
    certificatePem,
    privateKeyPem: exportPrivateKey(keys.privateKey),
    chainPem: certificatePem + options.root.chainPem,
    rootPem: options.root.rootPem,
    notAfterMs: certificate.notAfter.getTime(),
  };
}

/**
 * Assembles an authority from a file or a PKCS#12 archive: its own certificate first, then those up to the root in any
 * order. Errors: `CA_INVALID` when the key does not match, a certificate is missing, a signature is wrong or a certificate
 * is not a CA.
 */
export async function loadCertificateAuthority(options: {
  readonly certificatesPem: string;
  readonly privateKeyPem: string;
}): Promise<CertificateAuthority> {
  const [ownPem, ...otherPems] = splitCertificates(options.certificatesPem);
  if (ownPem === undefined) throw invalidCa('it contains no certificate');
  await importPrivateKey(options.privateKeyPem);
  const own = readCertificate(ownPem);
  if (!isKeyOf(options.privateKeyPem, own.publicKey.export({ type: 'spki', format: 'der' }))) {
    throw invalidCa('the private key does not belong to the first certificate');
  }
  const others = otherPems.map((pem) => readCertificate(pem));
  const chain: X509Certificate[] = [own];
  let current = own;
  while (!isSignedBy(current, current)) {
    const next = others.find((candidate) => isSignedBy(current, candidate));
    if (next === undefined || chain.includes(next))
      throw invalidCa(`the certificate of its issuer "${onOneLine(current.issuer)}" is missing`);
    chain.push(next);
    current = next;
  }
  const notCa = chain.find((certificate) => !certificate.ca);
  if (notCa !== undefined) throw invalidCa(`"${onOneLine(notCa.subject)}" is not a CA certificate`);
  const pems = chain.map((certificate) => encodePem('CERTIFICATE', certificate.raw));
  return {
    certificatePem: pems[0] ?? ownPem,
    privateKeyPem: options.privateKeyPem,
    chainPem: joinCertificates(pems.slice(0, -1)),
    rootPem: pems.at(-1) ?? ownPem,
    notAfterMs: Math.min(...chain.map((certificate) => Date.parse(certificate.validTo))),
  };
}

/** Throws `CA_EXPIRED` when the authority is not valid at `now`: every peer would reject what it signs. */
export function assertCanSign(authority: CertificateAuthority, now: number): void {
  const info = describeCertificate(authority.certificatePem);
  if (now >= info.notBeforeMs && now < authority.notAfterMs) return;
  throw new CulvertError({
    code: 'CA_EXPIRED',
    message: `the CA certificate "${info.subject}" is not valid now (it, or one above it, expires at ${new Date(authority.notAfterMs).toISOString()})`,
    hint: 'renew the CA, or correct the clock of this host',
  });
}

/** OpenSSL judges the signature, so every algorithm that verifiers know is accepted above the key that signs here. */
function isSignedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.issuer === issuer.subject && certificate.verify(issuer.publicKey);
}

function readCertificate(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw notACertificate(cause);
  }
}

/** RFC 5280, sections 4.2.1.1, .2, .3, .9 and .10. */
async function caExtensions(
  own: webcrypto.CryptoKey,
  limits: { readonly pathLength: number; readonly trustDomain: string },
  issuerIdentifier: x509.Extension,
): Promise<x509.Extension[]> {
  return [
    new x509.BasicConstraintsExtension(true, limits.pathLength, true),
    // Names of servers are not limited: the operator chooses those of the controller.
    new x509.Extension(nameConstraintsOid, true, permittedUris(limits.trustDomain)),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    await x509.SubjectKeyIdentifierExtension.create(own),
    issuerIdentifier,
  ];
}

/** `permittedSubtrees` with the host of all SPIFFE IDs; a constraint without a leading dot is exactly this host. */
function permittedUris(trustDomain: string): Uint8Array {
  return derTree.sequence(derTree.context0(derTree.sequence(der.uri(trustDomain))));
}

function invalidCa(why: string): CulvertError {
  return new CulvertError({
    code: 'CA_INVALID',
    message: `this is not a usable certificate authority: ${why}`,
    hint: 'provide the CA certificate, its private key and every certificate above it up to the self-signed root',
  });
}
