import { pbkdf2Sync } from 'node:crypto';
import forge from 'node-forge';

export type Asn1 = forge.asn1.Asn1;

const { Class, Type } = forge.asn1;

/**
 * The key derivation of PBES2 (RFC 8018) by OpenSSL in place of forge's own in JavaScript, which takes thirty times as long and
 * blocks the process meanwhile. Strings hold a byte in each character.
 */
function deriveKey(password: string, salt: string, iterations: number, length: number, digest: Digest): string {
  const [key, start] = [Buffer.from(password, 'binary'), Buffer.from(salt, 'binary')];
  return pbkdf2Sync(key, start, iterations, length, digest.algorithm).toString('binary');
}

type Digest = { readonly algorithm: string };
// The types of forge know neither the member nor that a digest has a name.
Object.assign((forge as unknown as { readonly pkcs5: object }).pkcs5, { pbkdf2: deriveKey });

/** `node-forge`. Only this folder may use it. */
export { forge };

/** Builders for the few ASN.1 types that PKCS#12 needs (X.680). Bytes are forge's binary strings. */
export const asn1 = {
  sequence: (...children: Asn1[]): Asn1 => forge.asn1.create(Class.UNIVERSAL, Type.SEQUENCE, true, children),
  set: (...children: Asn1[]): Asn1 => forge.asn1.create(Class.UNIVERSAL, Type.SET, true, children),
  /** `[0] EXPLICIT`. */
  explicit: (child: Asn1): Asn1 => forge.asn1.create(Class.CONTEXT_SPECIFIC, Type.NONE, true, [child]),
  oid: (oid: string): Asn1 => forge.asn1.create(Class.UNIVERSAL, Type.OID, false, forge.asn1.oidToDer(oid).getBytes()),
  octets: (bytes: string): Asn1 => forge.asn1.create(Class.UNIVERSAL, Type.OCTETSTRING, false, bytes),
  integer: (value: number): Asn1 =>
    forge.asn1.create(Class.UNIVERSAL, Type.INTEGER, false, forge.asn1.integerToDer(value).getBytes()),
  null: (): Asn1 => forge.asn1.create(Class.UNIVERSAL, Type.NULL, false, ''),
  encode: (value: Asn1): string => forge.asn1.toDer(value).getBytes(),
  /** Throws when the bytes are not DER. */
  decode: (bytes: string): Asn1 => forge.asn1.fromDer(bytes),
} as const;

/** The child at an index. Throws a RangeError when it does not exist. */
export function childOf(parent: Asn1, index: number): Asn1 {
  const child = childrenOf(parent)[index];
  if (child === undefined) throw new RangeError('an ASN.1 element is missing');
  return child;
}

export function childrenOf(parent: Asn1): Asn1[] {
  if (typeof parent.value === 'string') throw new RangeError('an ASN.1 element has no children');
  return parent.value;
}

/** The bytes of a primitive value, or of one that BER splits into parts. */
export function bytesOf(value: Asn1): string {
  return typeof value.value === 'string' ? value.value : value.value.map((part) => bytesOf(part)).join('');
}

export function oidOf(value: Asn1): string {
  return forge.asn1.derToOid(bytesOf(value));
}

export function integerOf(value: Asn1): number {
  return forge.asn1.derToInteger(bytesOf(value));
}
