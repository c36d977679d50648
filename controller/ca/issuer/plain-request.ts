import { namesIn, sameNames, type LeafNames } from '../leaf-names.js';
import { invalidCsr, parseCsr } from '../x509/parsed-certificate-request.js';
import { spkiOf } from './verify-issued.js';

const extensionRequest = '1.2.840.113549.1.9.14';
const subjectAltName = '551d11';

/**
 * The key of a request that asks for nothing but these names, or for none. An issuer elsewhere reads the whole request, and some
 * sign what they read there: a node must not be able to ask it for more than for its identity. `mayLackNames`: the issuer is
 * told the names in another way. Errors: `CSR_INVALID`.
 */
export async function plainRequestKey(
  csrPem: string,
  names: LeafNames,
  { mayLackNames }: { readonly mayLackNames: boolean },
): Promise<Uint8Array> {
  const { publicKey, subject, attributes, extensions } = await parseCsr(csrPem);
  if (attributes.some((type) => type !== extensionRequest) || attributes.length > 1) {
    throw invalidCsr('it has attributes that no agent sends');
  }
  if (extensions.some(({ oid }) => oid !== subjectAltName)) throw invalidCsr('it asks for extensions');
  const asked = namesIn(extensions);
  const isWithout = asked.length === 0 && mayLackNames;
  if (!isWithout && !sameNames(asked, names)) {
    throw invalidCsr(
      asked.length === 0
        ? 'it does not have the identity that the issuer would sign: upgrade culvert-agent on this node'
        : 'it asks for other names',
    );
  }
  // Agents of earlier versions name the node there.
  if (subject !== '' && !isWithout) throw invalidCsr('it has a subject');
  if (subject.length > 200) throw invalidCsr('its subject is too long');
  return spkiOf(publicKey.rawData);
}
