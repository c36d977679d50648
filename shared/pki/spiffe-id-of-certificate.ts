import { parseSpiffeId, type SpiffeId } from '../identity.js';
import { readExtensions, soleUriOf } from './certificate-names.js';
import { derTag, readDerChildren } from './der-reader.js';

const basicConstraints = '551d13';

/**
 * The workload identity that a certificate proves, or null. The certificate must not be a CA's and must carry exactly
 * one URI, which must exactly match a workload's SPIFFE ID (X.509-SVID specification, sections 2 and 5.2). Call it only
 * on a certificate that TLS has verified (`tlsSocket.getPeerCertificate().raw`): it checks names, not trust. Never
 * throws.
 *
 * It runs once per handshake in the data plane, so it parses the DER itself (20 µs) and loads no library for it (2 ms).
 */
export function spiffeIdOf(der: Uint8Array): SpiffeId | null {
  try {
    const extensions = readExtensions(der);
    if (extensions.some((extension) => extension.oid === basicConstraints && isCa(extension.value))) return null;
    const text = soleUriOf(extensions);
    return text === undefined || parseSpiffeId(text) === undefined ? null : (text as SpiffeId);
  } catch {
    return null;
  }
}

/** `BasicConstraints ::= SEQUENCE { cA BOOLEAN DEFAULT FALSE, … }`. */
function isCa(value: Uint8Array): boolean {
  const [first] = readDerChildren(value, derTag.sequence);
  return first?.tag === derTag.boolean && first.contents.some((byte) => byte !== 0);
}
