import { createPrivateKey, createPublicKey, KeyObject, webcrypto } from 'node:crypto';
import { CulvertError } from '../../../shared/errors.js';

/** Keys made here: ECDSA on P-256 with SHA-256, which every TLS 1.3 stack must support (RFC 8446, section 9.1). */
export const keyAlgorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

export async function generateKeyPair(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(keyAlgorithm, true, ['sign', 'verify']);
}

/** PKCS#8 in PEM. The caller must keep it secret: files of mode 0600. */
export function exportPrivateKey(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }).toString();
}

/** A CA's key, and how it signs. */
export type CaKey = webcrypto.CryptoKeyPair & { readonly algorithm: SigningAlgorithm };

export type SigningAlgorithm =
  | typeof keyAlgorithm
  | { readonly name: 'ECDSA'; readonly namedCurve: 'P-384'; readonly hash: 'SHA-384' }
  | { readonly name: 'RSASSA-PKCS1-v1_5'; readonly hash: 'SHA-256' };

const minRsaBits = 2048;
/** A longer key makes every signature take tens of milliseconds. */
const maxRsaBits = 4096;

/**
 * The key of a CA and its public half: EC on P-256 or P-384, or RSA of 2048 to 4096 bits, as the roots of most companies
 * are. Errors: `KEY_INVALID` for anything else.
 */
export async function importPrivateKey(privateKeyPem: string): Promise<CaKey> {
  let key: KeyObject;
  try {
    key = createPrivateKey(privateKeyPem);
  } catch (cause) {
    throw invalidKey('it cannot be read, or it is encrypted', cause);
  }
  const algorithm = signingAlgorithmOf(key);
  try {
    const pkcs8 = key.export({ type: 'pkcs8', format: 'der' });
    const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
    const [privateKey, publicKey] = await Promise.all([
      webcrypto.subtle.importKey('pkcs8', pkcs8, algorithm, false, ['sign']),
      webcrypto.subtle.importKey('spki', spki, algorithm, true, ['verify']),
    ]);
    return { privateKey, publicKey, algorithm };
  } catch (cause) {
    throw invalidKey('it cannot sign', cause);
  }
}

function signingAlgorithmOf(key: KeyObject): SigningAlgorithm {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  if (type === 'ec' && details?.namedCurve === 'prime256v1') return keyAlgorithm;
  if (type === 'ec' && details?.namedCurve === 'secp384r1') {
    return { name: 'ECDSA', namedCurve: 'P-384', hash: 'SHA-384' };
  }
  if (type === 'ec') throw invalidKey(`it is on the curve ${details?.namedCurve ?? '?'}`);
  if (type !== 'rsa') throw invalidKey(`it is of the type ${type ?? '?'}`);
  const bits = details?.modulusLength ?? 0;
  if (bits < minRsaBits || bits > maxRsaBits) throw invalidKey(`it is an RSA key of ${bits} bits`);
  return { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
}

function invalidKey(why: string, cause?: unknown): CulvertError {
  return new CulvertError({
    code: 'KEY_INVALID',
    message: `this is not a private key that a CA can sign with here: ${why}`,
    hint: 'use an unencrypted EC key on P-256 or P-384, or an RSA key of 2048 to 4096 bits; create one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256',
    cause,
  });
}

/** Whether two private keys (PEM) are one. */
export function isSameKey(one: string, other: string): boolean {
  return createPrivateKey(one).equals(createPrivateKey(other));
}

/** Whether a private key (PEM) belongs to a certificate's public key (SubjectPublicKeyInfo, DER). */
export function isKeyOf(privateKeyPem: string, spki: Uint8Array): boolean {
  return createPublicKey(privateKeyPem).export({ type: 'spki', format: 'der' }).equals(spki);
}
