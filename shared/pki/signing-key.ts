import { createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify, type KeyObject } from 'node:crypto';

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
  return sign(null, bytes, privateKeys.get(privateKeyPem));
}

export function isSigningPublicKey(pem: string): boolean {
  try {
    return createPublicKey(pem).asymmetricKeyType === 'ed25519';
  } catch {
    return false;
  }
}

/** False for a wrong signature, an invalid key and a key that is not Ed25519. */
export function verifyBytes(publicKeyPem: string, bytes: Uint8Array, signature: Uint8Array): boolean {
  try {
    const key = publicKeys.get(publicKeyPem);
    return key.asymmetricKeyType === 'ed25519' && verify(null, bytes, key, signature);
  } catch {
    return false;
  }
}

/** Caches parsed keys: parsing takes longer than using a key, and thousands of entries are signed with the same one. */
class ReadKeys {
  readonly #read: (pem: string) => KeyObject;
  readonly #keys = new Map<string, KeyObject>();

  constructor({ read }: { readonly read: (pem: string) => KeyObject }) {
    this.#read = read;
  }

  get(pem: string): KeyObject {
    const known = this.#keys.get(pem);
    if (known !== undefined) return known;
    const key = this.#read(pem);
    if (this.#keys.size >= maxReadKeys) this.#keys.clear();
    this.#keys.set(pem, key);
    return key;
  }
}

const maxReadKeys = 16;
const privateKeys = new ReadKeys({ read: createPrivateKey });
const publicKeys = new ReadKeys({ read: createPublicKey });
