import { createPrivateKey, createPublicKey, generateKeyPair, sign, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
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

/** What a request asks for: a SPIFFE ID of any form (also a node's), or only a name for people. */
export type RequestedName = { readonly identity: string } | { readonly commonName: string };

/**
 * Generates a P-256 key and a certificate request for it (PKCS#10, RFC 2986). Where the mesh has a CA of its own, the name in the
 * request only helps human readers; an external issuer may sign the names that it reads there. Every agent makes requests, so
 * it does not use the library that parses them.
 */
export async function createCsr(name: RequestedName): Promise<{ csrPem: string; privateKeyPem: string }> {
  const { privateKey } = await generate('ec', { namedCurve: 'P-256' });
  return { csrPem: requestWith(privateKey, name), privateKeyPem: exported(privateKey) };
}

/** A P-256 key for {@link csrFor}, PKCS#8 in PEM. */
export async function createCsrKey(): Promise<string> {
  return exported((await generate('ec', { namedCurve: 'P-256' })).privateKey);
}

/** A request for a P-256 key that exists already. Throws if it is no private key. */
export function csrFor(privateKeyPem: string, name: RequestedName): string {
  return requestWith(createPrivateKey(privateKeyPem), name);
}

function requestWith(privateKey: KeyObject, name: RequestedName): string {
  const spki = createPublicKey(privateKey).export({ type: 'spki', format: 'der' });
  const isNamed = 'commonName' in name;
  const info = derTree.sequence(
    der.integer(0),
    isNamed ? nameOf(name.commonName) : derTree.sequence(),
    spki,
    isNamed ? derTree.context0() : derTree.context0(requestedUri(name.identity)),
  );
  const signature = sign('sha256', info, privateKey);
  return encodePem(
    'CERTIFICATE REQUEST',
    derTree.sequence(info, derTree.sequence(der.oid(oid.ecdsaWithSha256)), der.bitString(signature)),
  );
}

function exported(privateKey: KeyObject): string {
  return privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
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
