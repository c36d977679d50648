import { timingSafeEqual, X509Certificate } from 'node:crypto';
import { CulvertError } from '../../../shared/errors.js';
import { asn1, bytesOf, childOf, childrenOf, forge, integerOf, oidOf, type Asn1 } from './asn1.js';
import { loadCertificateAuthority, type CertificateAuthority } from './certificate-authority.js';
import { isKeyOf } from './key-pair.js';
import { decodePem, encodePem, splitCertificates } from '../../../shared/pki/pem.js';

/**
 * A CA as PKCS#12 (RFC 7292): its key, its chain and the root. The PKCS#12 functions of `node-forge` handle only RSA keys,
 * so this file assembles the container itself and treats the key as opaque PKCS#8.
 */
const oids = {
  data: '1.2.840.113549.1.7.1',
  encryptedData: '1.2.840.113549.1.7.6',
  keyBag: '1.2.840.113549.1.12.10.1.1',
  shroudedKeyBag: '1.2.840.113549.1.12.10.1.2',
  certBag: '1.2.840.113549.1.12.10.1.3',
  x509Certificate: '1.2.840.113549.1.9.22.1',
  pbes2: '1.2.840.113549.1.5.13',
} as const;

const digests: Readonly<Record<string, () => forge.md.MessageDigest>> = {
  '1.3.14.3.2.26': () => forge.md.sha1.create(),
  '2.16.840.1.101.3.4.2.1': () => forge.md.sha256.create(),
  '2.16.840.1.101.3.4.2.2': () => forge.md.sha384.create(),
  '2.16.840.1.101.3.4.2.3': () => forge.md.sha512.create(),
};
const sha256Oid = '2.16.840.1.101.3.4.2.1';

/** OpenSSL's default is 2048: each guess of the password takes fifty times as long. */
const keyIterations = 100_000;
const macIterations = 10_000;
/** A file with more iterations would keep the process busy for minutes. */
const maxIterations = 10_000_000;
const macKeyId = 3;

type Contents = { readonly keys: Asn1[]; readonly certificates: string[] };

/** Key: PBES2 with AES-256-CBC and HMAC-SHA-256. MAC: HMAC-SHA-256. Certificates are public, so they are not encrypted. */
export function exportPkcs12(options: { readonly authority: CertificateAuthority; readonly password: string }): Buffer {
  const { authority, password } = options;
  const keyInfo = asn1.decode(binary(decodePem(authority.privateKeyPem) ?? new Uint8Array()));
  const shroudedKey = forge.pki.encryptPrivateKeyInfo(keyInfo, forge.util.encodeUtf8(password), {
    algorithm: 'aes256',
    count: keyIterations,
    saltSize: 16,
    prfAlgorithm: 'sha256',
  });
  const certificates = splitCertificates(authority.certificatePem + authority.chainPem + authority.rootPem);
  const certificateBags = [...new Set(certificates)].map((pem) =>
    bag(
      oids.certBag,
      asn1.sequence(
        asn1.oid(oids.x509Certificate),
        asn1.explicit(asn1.octets(binary(decodePem(pem) ?? new Uint8Array()))),
      ),
    ),
  );
  const authenticatedSafe = asn1.encode(
    asn1.sequence(
      dataContent(asn1.encode(asn1.sequence(...certificateBags))),
      dataContent(asn1.encode(asn1.sequence(bag(oids.shroudedKeyBag, shroudedKey)))),
    ),
  );
  const salt = forge.random.getBytesSync(16);
  const mac = computeMac({ password, salt, iterations: macIterations, digestOid: sha256Oid, data: authenticatedSafe });
  const macData = asn1.sequence(
    asn1.sequence(asn1.sequence(asn1.oid(sha256Oid), asn1.null()), asn1.octets(mac)),
    asn1.octets(salt),
    asn1.integer(macIterations),
  );
  return Buffer.from(asn1.encode(asn1.sequence(asn1.integer(3), dataContent(authenticatedSafe), macData)), 'binary');
}

/**
 * Reads a CA from a file that {@link exportPkcs12}, OpenSSL or Vault wrote. Errors: `PKCS12_PASSWORD` when the password is
 * wrong, `PKCS12_INVALID` when it is not a PKCS#12 file, `CA_INVALID` when it does not contain a CA on P-256 with its whole
 * chain.
 */
export async function importPkcs12(options: {
  readonly pkcs12: Uint8Array;
  readonly password: string;
}): Promise<CertificateAuthority> {
  const { keys, certificates } = readContents(options.pkcs12, options.password);
  const [key] = keys;
  if (key === undefined || keys.length > 1) throw invalidFile(`it contains ${keys.length} private keys, not one`);
  const privateKeyPem = encodePem('PRIVATE KEY', Buffer.from(asn1.encode(key), 'binary'));
  // Bags come in any order, but the certificate of the key has to be first.
  const own = certificates.findIndex((pem) => isKeyOf(privateKeyPem, spkiOf(pem)));
  const ordered = own < 0 ? certificates : [certificates[own] ?? '', ...certificates.toSpliced(own, 1)];
  return loadCertificateAuthority({ certificatesPem: ordered.join(''), privateKeyPem });
}

function readContents(pkcs12: Uint8Array, password: string): Contents {
  try {
    const pfx = asn1.decode(binary(pkcs12));
    if (integerOf(childOf(pfx, 0)) !== 3) throw invalidFile('its version is not 3');
    const authenticatedSafe = bytesOf(childOf(childOf(childOf(pfx, 1), 1), 0));
    verifyMac(childrenOf(pfx)[2], authenticatedSafe, password);
    const contents: Contents = { keys: [], certificates: [] };
    for (const part of childrenOf(asn1.decode(authenticatedSafe))) {
      for (const safeBag of childrenOf(openPart(part, password))) readBag(safeBag, password, contents);
    }
    return contents;
  } catch (error) {
    throw error instanceof CulvertError ? error : invalidFile('it cannot be parsed', error);
  }
}

function verifyMac(macData: Asn1 | undefined, data: string, password: string): void {
  if (macData === undefined) throw invalidFile('it has no MAC to protect it from changes');
  const digestInfo = childOf(macData, 0);
  const expected = Buffer.from(bytesOf(childOf(digestInfo, 1)), 'binary');
  const iterations = macData.value.length > 2 ? integerOf(childOf(macData, 2)) : 1;
  if (iterations > maxIterations) throw invalidFile(`its MAC takes ${iterations} iterations`);
  const mac = computeMac({
    password,
    salt: bytesOf(childOf(macData, 1)),
    iterations,
    digestOid: oidOf(childOf(childOf(digestInfo, 0), 0)),
    data,
  });
  const actual = Buffer.from(mac, 'binary');
  if (actual.length === expected.length && timingSafeEqual(actual, expected)) return;
  throw new CulvertError({
    code: 'PKCS12_PASSWORD',
    message: 'the password does not open this PKCS#12 file',
    hint: 'use the password of the export; if it is right, the file is damaged',
  });
}

/** RFC 7292, appendix B.4: HMAC with a key that is derived from the password. */
function computeMac(options: {
  readonly password: string;
  readonly salt: string;
  readonly iterations: number;
  readonly digestOid: string;
  readonly data: string;
}): string {
  const makeDigest = digests[options.digestOid];
  if (makeDigest === undefined) throw invalidFile(`its MAC uses the digest ${options.digestOid}`);
  const digest = makeDigest();
  const salt = forge.util.createBuffer(options.salt);
  const { password, iterations } = options;
  const key = forge.pkcs12.generateKey(password, salt, macKeyId, iterations, digest.digestLength, makeDigest());
  const hmac = forge.hmac.create();
  hmac.start(digest, key);
  hmac.update(options.data);
  return hmac.getMac().getBytes();
}

/** The SafeContents of one part of the AuthenticatedSafe. */
function openPart(part: Asn1, password: string): Asn1 {
  const type = oidOf(childOf(part, 0));
  const content = childOf(childOf(part, 1), 0);
  if (type === oids.data) return asn1.decode(bytesOf(content));
  if (type !== oids.encryptedData) throw invalidFile(`a part of it has the type ${type}`);
  const encrypted = childOf(content, 1);
  // It has the same two fields as an encrypted private key with other tags, so one function decrypts both.
  return decrypt(asn1.sequence(childOf(encrypted, 1), asn1.octets(bytesOf(childOf(encrypted, 2)))), password);
}

function readBag(safeBag: Asn1, password: string, contents: Contents): void {
  const type = oidOf(childOf(safeBag, 0));
  const value = childOf(childOf(safeBag, 1), 0);
  if (type === oids.keyBag) contents.keys.push(value);
  else if (type === oids.shroudedKeyBag) contents.keys.push(decrypt(value, password));
  else if (type === oids.certBag && oidOf(childOf(value, 0)) === oids.x509Certificate) {
    const der = Buffer.from(bytesOf(childOf(childOf(value, 1), 0)), 'binary');
    contents.certificates.push(encodePem('CERTIFICATE', der));
  }
}

function decrypt(encryptedKeyInfo: Asn1, password: string): Asn1 {
  // PBES2 derives the key from UTF-8. Older schemes use UTF-16, to which forge converts by itself.
  const isPbes2 = oidOf(childOf(childOf(encryptedKeyInfo, 0), 0)) === oids.pbes2;
  return forge.pki.decryptPrivateKeyInfo(encryptedKeyInfo, isPbes2 ? forge.util.encodeUtf8(password) : password);
}

function bag(type: string, value: Asn1): Asn1 {
  return asn1.sequence(asn1.oid(type), asn1.explicit(value));
}

function dataContent(bytes: string): Asn1 {
  return asn1.sequence(asn1.oid(oids.data), asn1.explicit(asn1.octets(bytes)));
}

function spkiOf(certificatePem: string): Uint8Array {
  return new X509Certificate(certificatePem).publicKey.export({ type: 'spki', format: 'der' });
}

function binary(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('binary');
}

function invalidFile(why: string, cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'PKCS12_INVALID',
    message: `this PKCS#12 file cannot be used: ${why}`,
    hint: 'create one with: openssl pkcs12 -export -inkey ca.key -in ca.pem -certfile chain.pem -out ca.p12',
    cause,
  });
}
