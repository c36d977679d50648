import { createPublicKey, generateKeyPairSync, sign, verify } from 'node:crypto';

/** An Ed25519 key with which the controller signs what it publishes (RFC 8032). Both halves are PEM. */
export type SigningKey = {
  /** SubjectPublicKeyInfo: pinned by agents when they join. */
  readonly publicKey: string;
  /** PKCS#8: never leaves the controller's state directory. */
  readonly privateKey: string;
};

export function generateSigningKey(): SigningKey {
  return generateKeyPairSync('ed25519', {
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
}

/** The 64 bytes of the signature. */
export function signBytes(privateKeyPem: string, bytes: Uint8Array): Uint8Array {
  return sign(null, bytes, privateKeyPem);
}

export function isSigningPublicKey(pem: string): boolean {
  try {
    return createPublicKey(pem).asymmetricKeyType === 'ed25519';
  } catch {
    return false;
  }
}

/** False for a wrong signature, a broken key and a key that is not Ed25519 alike. */
export function verifyBytes(publicKeyPem: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  try {
    const key = createPublicKey(publicKeyPem);
    return key.asymmetricKeyType === 'ed25519' && verify(null, bytes, key, signature);
  } catch {
    return false;
  }
}
