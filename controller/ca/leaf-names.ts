import ipaddr from 'ipaddr.js';
import { readExtensions, type CertificateExtension } from '../../shared/pki/certificate-names.js';
import { derTag, readDerChildren } from '../../shared/pki/der-reader.js';

const subjectAltName = '551d11';
/** GeneralName (RFC 5280, section 4.2.1.6). */
const [dnsTag, uriTag, ipTag] = [0x82, 0x86, 0x87];

/**
 * The subject alternative names of a certificate or request, each as text that says its kind too. Kinds that the mesh does not
 * use are in it as their bytes, so that they equal nothing that is wanted.
 */
export type LeafNames = readonly string[];

export function wantedNames(names: {
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
  readonly ipAddresses: readonly string[];
}): LeafNames {
  return [
    ...names.uris.map((uri) => `uri ${uri}`),
    ...names.dnsNames.map((name) => `dns ${name.toLowerCase()}`),
    ...names.ipAddresses.map((address) => `ip ${Buffer.from(ipaddr.parse(address).toByteArray()).toString('hex')}`),
  ];
}

/** Throws a RangeError for anything that is not a certificate (DER). */
export function namesOfCertificate(der: Uint8Array): LeafNames {
  return namesIn(readExtensions(der));
}

/** The extension may be there once. Throws a RangeError for anything that is not DER. */
export function namesIn(extensions: readonly CertificateExtension[]): LeafNames {
  const found = extensions.filter(({ oid }) => oid === subjectAltName);
  if (found.length > 1) throw new RangeError('several extensions with names');
  const [names] = found;
  if (names === undefined) return [];
  return readDerChildren(names.value, derTag.sequence).map(({ tag, contents }) => {
    const bytes = Buffer.from(contents);
    if (tag === uriTag) return `uri ${bytes.toString('latin1')}`;
    if (tag === dnsTag) return `dns ${bytes.toString('latin1').toLowerCase()}`;
    return tag === ipTag ? `ip ${bytes.toString('hex')}` : `tag ${tag} ${bytes.toString('hex')}`;
  });
}

/** In any order, each as often as in the other. */
export function sameNames(a: LeafNames, b: LeafNames): boolean {
  const [left, right] = [a.toSorted(compare), b.toSorted(compare)];
  return left.length === right.length && left.every((name, index) => name === right[index]);
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
