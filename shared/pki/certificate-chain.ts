import { X509Certificate } from 'node:crypto';
import { splitCertificates } from './pem.js';

/** More links than any chain of ours has; bounds the work that a foreign chain can cause. */
const maxChainLength = 8;

export type CertificateChain = {
  readonly leaf: X509Certificate;
  /** The certificates that signed it, in order, without the root. */
  readonly issuers: readonly X509Certificate[];
};

/** The leaf first. Undefined if there is no certificate, or more than eight. Throws if one cannot be parsed. */
export function readCertificateChain(chainPem: string): CertificateChain | undefined {
  const pems = splitCertificates(chainPem);
  if (pems.length > maxChainLength) return undefined;
  const [leaf, ...issuers] = pems.map((pem) => new X509Certificate(pem));
  return leaf === undefined ? undefined : { leaf, issuers };
}

/** Whether the chain is signed, link by link, up to one of the roots. Does not check names and lifetimes. */
export function endsAtRoot({ leaf, issuers }: CertificateChain, rootsPem: string): boolean {
  let subject = leaf;
  for (const issuer of issuers) {
    if (!isIssuedBy(subject, issuer)) return false;
    subject = issuer;
  }
  const roots = splitCertificates(rootsPem).map((pem) => new X509Certificate(pem));
  return roots.some((root) => isIssuedBy(root, root) && isIssuedBy(subject, root));
}

/** RFC 5280, section 6.1: the names match, the issuer is a CA, and its key made the signature. */
function isIssuedBy(subject: X509Certificate, issuer: X509Certificate): boolean {
  return issuer.ca && subject.checkIssued(issuer) && subject.verify(issuer.publicKey);
}
