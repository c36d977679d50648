import { createPrivateKey, createPublicKey, sign, verify, type KeyObject } from 'node:crypto';
import { nkeys } from 'nats';
import { getEd25519Helper, setEd25519Helper } from 'nkeys.js/lib/helper.js';

/** PKCS#8 of an Ed25519 key (RFC 8410), up to the key. */
const pkcs8Header = Buffer.from('302e020100300506032b657004220420', 'hex');
const seedBytes = 32;

/**
 * The library computes Ed25519 in JavaScript, which takes ten times as long as OpenSSL and was a tenth of a controller's
 * start. It lets its runtime give it another implementation; text, roles and checksums stay the library's.
 */
setEd25519Helper({
  ...getEd25519Helper(),
  fromSeed: (seed) => {
    const publicKey = publicBytes(createPublicKey(privateKey(seed)));
    // As in NaCl: the secret key is the seed, then the public key.
    return { publicKey, secretKey: Buffer.concat([seed, publicKey]) };
  },
  sign: (data, secretKey) => sign(null, data, privateKey(secretKey.subarray(0, seedBytes))),
  verify: (data, signature, key) => {
    const x = Buffer.from(key).toString('base64url');
    const publicKey = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
    return verify(null, data, publicKey, signature);
  },
});

function privateKey(seed: Uint8Array): KeyObject {
  return createPrivateKey({ key: Buffer.concat([pkcs8Header, seed]), format: 'der', type: 'pkcs8' });
}

/** The JWK form is the shortest way to the 32 bytes. */
function publicBytes(key: KeyObject): Buffer {
  return Buffer.from(key.export({ format: 'jwk' }).x ?? '', 'base64url');
}

/** The keys of NATS's users, accounts and operators. */
export { nkeys };
