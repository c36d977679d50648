import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { getEd25519Helper } from 'nkeys.js/lib/helper.js';
import nacl from 'tweetnacl';
import { nkeys } from '../../../../shared/bus/nkeys.js';

describe('the keys of NATS, computed by OpenSSL', () => {
  it('are those that the library computes itself', () => {
    const openssl = getEd25519Helper();
    for (let round = 0; round < 20; round++) {
      const [seed, bytes] = [randomBytes(32), randomBytes(round * 7)];
      const [pair, expected] = [openssl.fromSeed(seed), nacl.sign.keyPair.fromSeed(seed)];
      assert.deepEqual(Buffer.from(pair.publicKey), Buffer.from(expected.publicKey));
      assert.deepEqual(Buffer.from(pair.secretKey), Buffer.from(expected.secretKey));
      // The same bytes have the same signature (RFC 8032).
      const signature = openssl.sign(bytes, pair.secretKey);
      assert.deepEqual(Buffer.from(signature), Buffer.from(nacl.sign.detached(bytes, expected.secretKey)));
      assert.equal(openssl.verify(bytes, signature, pair.publicKey), true);
      assert.equal(openssl.verify(randomBytes(9), signature, pair.publicKey), false);
    }
  });

  it('are computed there when the client of NATS asks', (t) => {
    const openssl = t.mock.method(getEd25519Helper(), 'fromSeed');
    nkeys.createUser().getPublicKey();
    assert.ok(openssl.mock.callCount() > 0);
  });

  for (const create of [nkeys.createOperator, nkeys.createAccount, nkeys.createUser]) {
    it(`sign and verify: ${create.name}`, () => {
      const pair = create();
      const bytes = Buffer.from('what the server asks');
      const signature = nkeys.fromSeed(pair.getSeed()).sign(bytes);
      assert.equal(nkeys.fromPublic(pair.getPublicKey()).verify(bytes, signature), true);
    });
  }
});
