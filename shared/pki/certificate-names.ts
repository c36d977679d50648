import { derTag, readDerChildren, readDerElements, type DerElement } from './der-reader.js';

const subjectAltName = '551d11';
/** `uniformResourceIdentifier [6] IA5String` of GeneralName (RFC 5280, section 4.2.1.6). */
const uriTag = 0x86;

export type CertificateExtension = {
  /** Hex of the DER. */
  readonly oid: string;
  readonly value: Uint8Array;
};

/**
 * The URI of a certificate (DER) with exactly one subject alternative name extension that contains exactly one URI.
 * Throws a RangeError for anything that is not a certificate.
 */
export function soleUri(der: Uint8Array): string | undefined {
  return soleUriOf(readExtensions(der));
}

export function soleUriOf(extensions: readonly CertificateExtension[]): string | undefined {
  const names = extensions.filter((extension) => extension.oid === subjectAltName);
  const [name] = names;
  if (name === undefined || names.length > 1) return undefined;
  const uris = readDerChildren(name.value, derTag.sequence).filter((general) => general.tag === uriTag);
  const [uri] = uris;
  return uri === undefined || uris.length > 1 ? undefined : Buffer.from(uri.contents).toString('latin1');
}

/**
 * The names of issuer and subject of a certificate (DER), as hex of their encoding. OpenSSL compares names by their meaning,
 * other verifiers by these bytes.
 */
export function encodedNames(der: Uint8Array): { readonly issuer: string; readonly subject: string } {
  const [tbs] = readDerChildren(der, derTag.sequence);
  if (tbs === undefined) throw new RangeError('no tbsCertificate');
  // Without the version, which only the first version of X.509 leaves out: serial, algorithm, issuer, validity, subject.
  const fields = readDerElements(tbs.contents).filter(({ tag }) => tag !== derTag.version);
  const [issuer, subject] = [fields[2], fields[4]].map((field) => Buffer.from(field?.contents ?? []).toString('hex'));
  return { issuer: issuer ?? '', subject: subject ?? '' };
}

/** All extensions of a certificate (DER), in order. */
export function readExtensions(der: Uint8Array): CertificateExtension[] {
  const [tbs] = readDerChildren(der, derTag.sequence);
  if (tbs?.tag !== derTag.sequence) throw new RangeError('no tbsCertificate');
  const wrapper = readDerElements(tbs.contents).find((element) => element.tag === derTag.extensions);
  if (wrapper === undefined) return [];
  return readDerChildren(wrapper.contents, derTag.sequence).map((element) => readExtension(element));
}

function readExtension(element: DerElement): CertificateExtension {
  const parts = readDerElements(element.contents);
  const oid = parts[0];
  const value = parts.at(-1);
  if (element.tag !== derTag.sequence || oid?.tag !== derTag.oid || value?.tag !== derTag.octetString) {
    throw new RangeError('malformed extension');
  }
  return { oid: Buffer.from(oid.contents).toString('hex'), value: value.contents };
}
