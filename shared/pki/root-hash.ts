import { certificateHash } from './certificate-info.js';
import { splitCertificates } from './pem.js';

/** The hash of each root in a bundle, see {@link certificateHash}. Throws `CERTIFICATE_INVALID`. */
export function rootHashes(rootsPem: string): string[] {
  return [...new Set(splitCertificates(rootsPem).map((pem) => certificateHash(pem)))];
}
