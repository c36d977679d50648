import { generateKeyPair, sign } from 'node:crypto';
import { promisify } from 'node:util';
import type { SpiffeId } from '../identity.js';
import { der, derTree } from './der-writer.js';
import { encodePem } from './pem.js';

const generate = promisify(generateKeyPair);

/** Object identifiers, in DER: RFC 5912 and RFC 2985. */
const oid = {
  commonName: '550403',
  subjectAltName: '551d11',
  extensionRequest: '2a864886f70d01090e',
  ecdsaWithSha256: '2a8648ce3d040302',
} as const;

/**
 * Generates a P-256 key and a certificate request for it (PKCS#10, RFC 2986). The name in the request only helps human
 * readers; the CA decides what the certificate says. Every agent makes requests, so it does not use the library that
 * parses them.
 */
export async function createCsr(
  options: { readonly identity: SpiffeId } | { readonly commonName: string },
): Promise<{ csrPem: string; privateKeyPem: string }> {
  const { publicKey, privateKey } = await generate('ec', { namedCurve: 'P-256' });
  const spki = publicKey.export({ type: 'spki', format: 'der' });
  const isNamed = 'commonName' in options;
  const info = derTree.sequence(
    der.integer(0),
    isNamed ? nameOf(options.commonName) : derTree.sequence(),
    spki,
    isNamed ? derTree.context0() : derTree.context0(requestedUri(options.identity)),
  );
  const signature = sign('sha256', info, privateKey);
  const request = derTree.sequence(info, derTree.sequence(der.oid(oid.ecdsaWithSha256)), der.bitString(signature));
  return {
    csrPem: encodePem('CERTIFICATE REQUEST', request),
    privateKeyPem: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}

function nameOf(commonName: string): Buffer {
  return derTree.sequence(derTree.set(derTree.sequence(der.oid(oid.commonName), der.utf8(commonName))));
}

/** The attribute that requests a critical subject alternative name with one URI. */
function requestedUri(uri: string): Buffer {
  const names = derTree.sequence(der.uri(uri));
  const extension = derTree.sequence(der.oid(oid.subjectAltName), der.true(), der.octets(names));
  return derTree.sequence(der.oid(oid.extensionRequest), derTree.set(derTree.sequence(extension)));
}
