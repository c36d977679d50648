import { X509Certificate, createPrivateKey } from 'node:crypto';
import { describeError } from '../errors.js';
import { describeCertificate } from './certificate-info.js';
import { splitCertificates } from './pem.js';

/**
 * Why a certificate that was issued to us must not be used, or null: it carries exactly the identity that was asked
 * for and our own key, and its chain is signed link by link up to one of the roots that came with it. Lifetimes are
 * the callers' business, and TLS decides on them once more.
 */
export function problemOfIssued(o: {
  /** The leaf first, then what signed it, without the root. */
  readonly chainPem: string;
  readonly keyPem: string;
  readonly spiffeId: string;
  readonly rootsPem: string;
}): string | null {
  try {
    const { spiffeId } = describeCertificate(o.chainPem);
    if (spiffeId !== o.spiffeId) return `it is a certificate for ${spiffeId ?? 'no identity'}, not for ${o.spiffeId}`;
    const [leaf, ...issuers] = readAll(o.chainPem);
    if (leaf?.checkPrivateKey(createPrivateKey(o.keyPem)) !== true) return 'it was issued for another key';
    return endsAtRoot(leaf, issuers, readAll(o.rootsPem)) ? null : 'the roots that came with it do not vouch for it';
  } catch (error) {
    return `it cannot be read: ${describeError(error)}`;
  }
}

function readAll(pem: string): X509Certificate[] {
  return splitCertificates(pem).map((one) => new X509Certificate(one));
}

function endsAtRoot(
  leaf: X509Certificate,
  issuers: readonly X509Certificate[],
  roots: readonly X509Certificate[],
): boolean {
  let subject = leaf;
  for (const issuer of issuers) {
    if (!isIssuedBy(subject, issuer)) return false;
    subject = issuer;
  }
  return roots.some((root) => isIssuedBy(root, root) && isIssuedBy(subject, root));
}

/** RFC 5280, section 6.1: the names fit, the issuer is a CA, and its key signed. */
function isIssuedBy(subject: X509Certificate, issuer: X509Certificate): boolean {
  return issuer.ca && subject.checkIssued(issuer) && subject.verify(issuer.publicKey);
}
