import type { webcrypto } from 'node:crypto';
import { CulvertError } from '../../../shared/errors.js';
import { describeCertificate } from '../../../shared/pki/certificate-info.js';
import { exportPrivateKey, generateKeyPair, importPrivateKey, isKeyOf, keyAlgorithm } from './key-pair.js';
import { joinCertificates, splitCertificates } from '../../../shared/pki/pem.js';
import { isCaCertificate, newSerial, parseCertificate, x509 } from './x509.js';

/** A key that signs certificates, and its chain to the root. Plain data: store `privateKeyPem` with mode 0600. */
export type CertificateAuthority = {
  readonly certificatePem: string;
  /** PKCS#8. */
  readonly privateKeyPem: string;
  /** The certificates that are sent after a leaf of this authority: its own and those above it, without the root. Empty for a root. */
  readonly chainPem: string;
  /** The trust anchor. */
  readonly rootPem: string;
  readonly notAfterMs: number;
};

const dayMs = 86_400_000;
const rootValidForMs = 3650 * dayMs;
const issuingValidForMs = 365 * dayMs;
/** A certificate is valid from a little before it was created, because the clocks of hosts differ. */
export const defaultBackdateMs = 300_000;

/** Creates a self-signed root. `now` is in milliseconds since the epoch. */
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
    extensions: await caExtensions(keys.publicKey, keys.publicKey, undefined),
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

/** Creates an authority under `root` that may sign only leaves (path length 0). It never outlives the root. */
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
    signingAlgorithm: keyAlgorithm,
    extensions: await caExtensions(keys.publicKey, issuerKeys.publicKey, 0),
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
  const own = parseCertificate(ownPem);
  if (!isKeyOf(options.privateKeyPem, new Uint8Array(own.publicKey.rawData))) {
    throw invalidCa('the private key does not belong to the first certificate');
  }
  const others = otherPems.map((pem) => parseCertificate(pem));
  const chain: x509.X509Certificate[] = [own];
  let current = own;
  while (!(await isSignedBy(current, current))) {
    const next = await findIssuer(current, others);
    if (next === undefined || chain.includes(next))
      throw invalidCa(`the certificate of its issuer "${current.issuer}" is missing`);
    chain.push(next);
    current = next;
  }
  const notCa = chain.find((certificate) => !isCaCertificate(certificate));
  if (notCa !== undefined) throw invalidCa(`"${notCa.subject}" is not a CA certificate`);
  const pems = chain.map((certificate) => `${certificate.toString('pem')}\n`);
  return {
    certificatePem: pems[0] ?? ownPem,
    privateKeyPem: options.privateKeyPem,
    chainPem: joinCertificates(pems.slice(0, -1)),
    rootPem: pems.at(-1) ?? ownPem,
    notAfterMs: own.notAfter.getTime(),
  };
}

/** Throws `CA_EXPIRED` when the authority is not valid at `now`: every peer would reject what it signs. */
export function assertCanSign(authority: CertificateAuthority, now: number): void {
  const info = describeCertificate(authority.certificatePem);
  if (now >= info.notBeforeMs && now < info.notAfterMs) return;
  throw new CulvertError({
    code: 'CA_EXPIRED',
    message: `the CA certificate "${info.subject}" is not valid now (it expires at ${new Date(info.notAfterMs).toISOString()})`,
    hint: 'renew the CA, or correct the clock of this host',
  });
}

async function findIssuer(
  certificate: x509.X509Certificate,
  candidates: readonly x509.X509Certificate[],
): Promise<x509.X509Certificate | undefined> {
  for (const candidate of candidates) if (await isSignedBy(certificate, candidate)) return candidate;
  return undefined;
}

async function isSignedBy(certificate: x509.X509Certificate, issuer: x509.X509Certificate): Promise<boolean> {
  if (certificate.issuer !== issuer.subject) return false;
  return certificate.verify({ publicKey: issuer.publicKey, signatureOnly: true });
}

/** RFC 5280, sections 4.2.1.1, .2, .3 and .9. */
async function caExtensions(
  own: webcrypto.CryptoKey,
  issuer: webcrypto.CryptoKey,
  pathLength: number | undefined,
): Promise<x509.Extension[]> {
  return [
    new x509.BasicConstraintsExtension(true, pathLength, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    await x509.SubjectKeyIdentifierExtension.create(own),
    await x509.AuthorityKeyIdentifierExtension.create(issuer),
  ];
}

function invalidCa(why: string): CulvertError {
  return new CulvertError({
    code: 'CA_INVALID',
    message: `this is not a usable certificate authority: ${why}`,
    hint: 'provide the CA certificate, its private key and every certificate above it up to the self-signed root',
  });
}
