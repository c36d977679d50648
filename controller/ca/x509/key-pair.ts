import { createPrivateKey, createPublicKey, KeyObject, webcrypto } from 'node:crypto';
import { CulvertError } from '../../../shared/errors.js';

/** ECDSA on P-256 with SHA-256, which every TLS 1.3 stack must support (RFC 8446, section 9.1). */
export const keyAlgorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

export async function generateKeyPair(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(keyAlgorithm, true, ['sign', 'verify']);
}

/** PKCS#8 in PEM. The caller must keep it secret: files of mode 0600. */
export function exportPrivateKey(key: webcrypto.CryptoKey): string {
  return KeyObject.from(key).export({ type: 'pkcs8', format: 'pem' }).toString();
}

/** The key and its public half. Errors: `KEY_INVALID` when it is not a private key on P-256. */
export async function importPrivateKey(privateKeyPem: string): Promise<webcrypto.CryptoKeyPair> {
  try {
    const key = createPrivateKey(privateKeyPem);
    const pkcs8 = key.export({ type: 'pkcs8', format: 'der' });
    const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
    const [privateKey, publicKey] = await Promise.all([
      webcrypto.subtle.importKey('pkcs8', pkcs8, keyAlgorithm, false, ['sign']),
      webcrypto.subtle.importKey('spki', spki, keyAlgorithm, true, ['verify']),
    ]);
    return { privateKey, publicKey };
  } catch (cause) {
    throw new CulvertError({
      code: 'KEY_INVALID',
      message: 'this is not an unencrypted EC private key on the curve P-256',
      hint: 'create one with: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256',
      cause,
    });
  }
}

/** Whether a private key (PEM) belongs to a certificate's public key (SubjectPublicKeyInfo, DER). */
export function isKeyOf(privateKeyPem: string, spki: Uint8Array): boolean {
  return createPublicKey(privateKeyPem).export({ type: 'spki', format: 'der' }).equals(spki);
}
