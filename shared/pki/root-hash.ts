import { certificateHash } from './certificate-info.js';
import { endsAtRoot, readCertificateChain } from './certificate-chain.js';
import { splitCertificates } from './pem.js';

/** The hash of each root in a bundle, see {@link certificateHash}. Throws `CERTIFICATE_INVALID`. */
export function rootHashes(rootsPem: string): string[] {
  return [...new Set(splitCertificates(rootsPem).map((pem) => certificateHash(pem)))];
}

/** The hash of the root at which a chain ends; null if none of the roots verifies it, or it cannot be read. */
export function rootHashOf(chainPem: string, rootsPem: string): string | null {
  try {
    const chain = readCertificateChain(chainPem);
    if (chain === undefined) return null;
    const root = splitCertificates(rootsPem).find((pem) => endsAtRoot(chain, pem));
    return root === undefined ? null : certificateHash(root);
  } catch {
    return null;
  }
}
