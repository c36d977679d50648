import assert from 'node:assert/strict';
import { test } from 'node:test';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { openNodeEnrolment, sealNodeEnrolment } from '../../../../shared/wire/node-enrolment.js';
import { nodeNamed } from '../../../support/routing/names.js';

const key = generateSigningKey();
const node = nodeNamed('node1');
const enrolment = { version: 7, namespaces: ['shop'], outside: ['6e2c'] };

function sealed(part: object = {}): Uint8Array {
  return sealNodeEnrolment({ node, enrolment: { ...enrolment, ...part }, privateKeyPem: key.privateKey });
}

test('what the controller says to one node is for this node, from this controller', () => {
  const publicKeysPem = [key.publicKey];
  assert.deepEqual(openNodeEnrolment({ node, bytes: sealed(), publicKeysPem }), enrolment);
  const another = nodeNamed('node2');
  const wrong = { code: 'SIGNATURE_INVALID' };
  assert.throws(() => openNodeEnrolment({ node: another, bytes: sealed(), publicKeysPem }), wrong);
  const foreign = [generateSigningKey().publicKey];
  assert.throws(() => openNodeEnrolment({ node, bytes: sealed(), publicKeysPem: foreign }), wrong);
});

test('a name that no namespace and no pod can have is refused, and what does not fit into a message is not made', () => {
  for (const part of [{ namespaces: ['a b'] }, { outside: ['a\nb'] }, { version: 0 }]) {
    const open = () => openNodeEnrolment({ node, bytes: sealed(part), publicKeysPem: [key.publicKey] });
    assert.throws(open, { code: 'PAYLOAD_INVALID' });
  }
  const outside = Array.from({ length: 20_000 }, (_, index) => `00000000-0000-0000-0000-${index}`);
  assert.throws(() => sealed({ outside }), { code: 'PAYLOAD_TOO_LARGE' });
});
