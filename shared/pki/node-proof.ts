import { createPrivateKey, sign, verify } from 'node:crypto';
import { describeError } from '../errors.js';
import { endsAtRoot, readCertificateChain, type CertificateChain } from './certificate-chain.js';
import { describeCertificate } from './certificate-info.js';

/** Signs with the key of a node's certificate: ECDSA on P-256 with SHA-256, DER. Throws if it is not a private key. */
export function signAsNode(init: { readonly bytes: Uint8Array; readonly privateKeyPem: string }): Uint8Array {
  return sign('sha256', init.bytes, createPrivateKey(init.privateKeyPem));
}

/**
 * Why a signature does not prove that a node made it; null: it does. The certificate must carry exactly the node's
 * SPIFFE ID, be valid at `nowMs` and end at one of our roots, and its key must have signed exactly these bytes. Never
 * throws.
 */
export function problemOfNodeProof(init: {
  readonly bytes: Uint8Array;
  readonly signature: Uint8Array;
  /** The leaf first, then the certificates that signed it, without the root. */
  readonly chainPem: string;
  readonly rootsPem: string;
  readonly spiffeId: string;
  readonly nowMs: number;
}): string | null {
  try {
    const { spiffeId } = describeCertificate(init.chainPem);
    if (spiffeId !== init.spiffeId)
      return `its certificate is for ${spiffeId ?? 'no identity'}, not for ${init.spiffeId}`;
    const chain = readCertificateChain(init.chainPem);
    if (chain === undefined || chain.leaf.ca) return 'its certificate does not belong to a node';
    if (!endsAtRoot(chain, init.rootsPem)) return 'its certificate was not issued by a CA of this mesh';
    if (!isInForce(chain, init.nowMs)) return 'its certificate is not valid now';
    return verify('sha256', init.bytes, chain.leaf.publicKey, init.signature) ? null : 'its signature is wrong';
  } catch (error) {
    return `its certificate cannot be read: ${describeError(error)}`;
  }
}

function isInForce({ leaf, issuers }: CertificateChain, nowMs: number): boolean {
  return [leaf, ...issuers].every(
    ({ validFrom, validTo }) => nowMs >= Date.parse(validFrom) && nowMs < Date.parse(validTo),
  );
}
