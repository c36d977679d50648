import { parseSpiffeId, type SpiffeId } from '../identity.js';
import { derTag, readDerChildren, readDerElements, type DerElement } from './der-reader.js';

const subjectAltName = '551d11';
const basicConstraints = '551d13';
/** `uniformResourceIdentifier [6] IA5String` of GeneralName (RFC 5280, section 4.2.1.6). */
const uriTag = 0x86;

/**
 * The workload identity that a certificate proves, or null: it must be no CA and carry exactly one URI, and that must
 * be a workload's SPIFFE ID to the letter (X.509-SVID specification, sections 2 and 5.2). Call it only on a
 * certificate that TLS has verified (`tlsSocket.getPeerCertificate().raw`); it checks names, not trust. Never throws.
 *
 * It runs once per handshake in the data plane, so it walks the DER itself (20 µs) and loads no library for it (2 ms).
 */
export function spiffeIdOf(der: Uint8Array): SpiffeId | null {
  try {
    const extensions = readExtensions(der);
    if (extensions.some((extension) => extension.oid === basicConstraints && isCa(extension.value))) return null;
    const names = extensions.filter((extension) => extension.oid === subjectAltName);
    const [name] = names;
    if (name === undefined || names.length > 1) return null;
    const uris = readDerChildren(name.value, derTag.sequence).filter((general) => general.tag === uriTag);
    const [uri] = uris;
    if (uri === undefined || uris.length > 1) return null;
    const text = Buffer.from(uri.contents).toString('latin1');
    return parseSpiffeId(text) === undefined ? null : (text as SpiffeId);
  } catch {
    return null;
  }
}

function readExtensions(der: Uint8Array): { oid: string; value: Uint8Array }[] {
  const [tbs] = readDerChildren(der, derTag.sequence);
  if (tbs?.tag !== derTag.sequence) throw new RangeError('no tbsCertificate');
  const wrapper = readDerElements(tbs.contents).find((element) => element.tag === derTag.extensions);
  if (wrapper === undefined) return [];
  return readDerChildren(wrapper.contents, derTag.sequence).map((element) => readExtension(element));
}

function readExtension(element: DerElement): { oid: string; value: Uint8Array } {
  const parts = readDerElements(element.contents);
  const oid = parts[0];
  const value = parts.at(-1);
  if (element.tag !== derTag.sequence || oid?.tag !== derTag.oid || value?.tag !== derTag.octetString) {
    throw new RangeError('malformed extension');
  }
  return { oid: Buffer.from(oid.contents).toString('hex'), value: value.contents };
}

/** `BasicConstraints ::= SEQUENCE { cA BOOLEAN DEFAULT FALSE, … }`. */
function isCa(value: Uint8Array): boolean {
  const [first] = readDerChildren(value, derTag.sequence);
  return first?.tag === derTag.boolean && first.contents.some((byte) => byte !== 0);
}
