import { X509Certificate } from 'node:crypto';
import { CulvertError, describeError } from '../../../shared/errors.js';
import { readNamedFile } from '../../../shared/named-file.js';
import { onOneLine } from '../../../shared/pki/certificate-info.js';
import { encodePem, joinCertificates, splitCertificates } from '../../../shared/pki/pem.js';
import { quoted } from './issuer-error.js';

const maxFileBytes = 256 * 1024;
const maxRoots = 8;

/**
 * The roots in the file that the operator names, PEM: those under which the issuer may sign. Throws CulvertError `ISSUER_ROOTS`
 * unless it has one to eight, each self-signed and a CA. One that has expired is left out.
 */
export async function readIssuerRoots(path: string, nowMs: number): Promise<string> {
  const file = await readNamedFile(path, { maxBytes: maxFileBytes });
  if (!file.isRead) throw unusable(path, file.problem, file.cause);
  const pems = splitCertificates(joinCertificates([file.bytes.toString('latin1')]));
  if (pems.length === 0 || pems.length > maxRoots) throw unusable(path, `it has ${pems.length} certificates`);
  const roots = pems.map((pem) => readRoot(path, pem)).filter(({ validTo }) => Date.parse(validTo) > nowMs);
  if (roots.length === 0) throw unusable(path, 'every certificate in it has expired');
  return joinCertificates(roots.map(({ raw }) => encodePem('CERTIFICATE', raw)));
}

/** The self-signed CAs among certificates, PEM; empty: there is none. Throws for what is no certificate. */
export function rootsAmong(bundlePem: string): string {
  const certificates = splitCertificates(bundlePem)
    .slice(0, 2 * maxRoots)
    .map((pem) => new X509Certificate(pem));
  return joinCertificates(certificates.filter(isRoot).map(({ raw }) => encodePem('CERTIFICATE', raw)));
}

function readRoot(path: string, pem: string): X509Certificate {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(pem);
  } catch (cause) {
    throw unusable(path, `a certificate in it cannot be read: ${describeError(cause)}`, cause);
  }
  if (isRoot(certificate)) return certificate;
  throw unusable(path, `"${quoted(onOneLine(certificate.subject))}" in it is no root: it is not a self-signed CA`);
}

function isRoot(certificate: X509Certificate): boolean {
  return certificate.ca && certificate.checkIssued(certificate) && certificate.verify(certificate.publicKey);
}

function unusable(path: string, why: string, cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'ISSUER_ROOTS',
    message: `the roots of the issuer in ${path} cannot be used: ${why}`,
    hint: 'name a PEM file with the root of the issuer (during a change of it both) with --issuer-roots-file',
    ...(cause === undefined ? {} : { cause }),
  });
}
