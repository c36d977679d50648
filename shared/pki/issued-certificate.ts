import { createPrivateKey } from 'node:crypto';
import { describeError } from '../errors.js';
import { endsAtRoot, readCertificateChain } from './certificate-chain.js';
import { describeCertificate } from './certificate-info.js';

/**
 * Why a certificate that was issued to us must not be used; null: it may be. It must carry exactly the requested
 * identity and our own key, and its chain must be signed, link by link, up to one of the roots that came with it.
 * Callers check lifetimes, and so does TLS.
 */
export function problemOfIssued(init: {
  /** The leaf first, then the certificates that signed it, without the root. */
  readonly chainPem: string;
  readonly keyPem: string;
  readonly spiffeId: string;
  readonly rootsPem: string;
}): string | null {
  try {
    const { spiffeId } = describeCertificate(init.chainPem);
    if (spiffeId !== init.spiffeId)
      return `it is a certificate for ${spiffeId ?? 'no identity'}, not for ${init.spiffeId}`;
    const chain = readCertificateChain(init.chainPem);
    if (chain?.leaf.checkPrivateKey(createPrivateKey(init.keyPem)) !== true) return 'it was issued for another key';
    return endsAtRoot(chain, init.rootsPem) ? null : 'the roots that came with it do not verify it';
  } catch (error) {
    return `it cannot be read: ${describeError(error)}`;
  }
}
