import assert from 'node:assert/strict';
import { test } from 'node:test';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { encodeWire } from '../../../../shared/wire/requests.js';
import { maxAnswerBytes, openAnswer, sealAnswer } from '../../../../shared/wire/sealed-answer.js';
import { encodePayload, signEnvelope, encodeJson } from '../../../../shared/wire/signed-envelope.js';

const key = generateSigningKey();
const other = generateSigningKey();
const asked = { subject: 'culvert.v1.sign.node1', request: encodeWire({ requests: [], nonce: 'a' }) };
const answer = { rootsPem: 'the roots', certificates: [] };
const sealed = sealAnswer({ asked, answer, privateKeyPem: key.privateKey });
const publicKeysPem = [key.publicKey];

function change(bytes: Uint8Array, edit: (envelope: Record<string, unknown>) => void): Uint8Array {
  const envelope = JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>;
  edit(envelope);
  return Buffer.from(JSON.stringify(envelope));
}

test('an answer opens for the request that it was sealed for, with any key of the list', () => {
  const opened = openAnswer({ asked, bytes: sealed, publicKeysPem: [other.publicKey, key.publicKey] });
  assert.deepEqual(JSON.parse(Buffer.from(opened).toString()), answer);
});

test('an answer to another request, another node, another verb or by another key does not verify', () => {
  const refused: [what: string, asked: typeof asked, keys: string[]][] = [
    ['an earlier request', { ...asked, request: encodeWire({ requests: [], nonce: 'b' }) }, publicKeysPem],
    ['another node', { ...asked, subject: 'culvert.v1.sign.node2' }, publicKeysPem],
    ['another verb', { ...asked, subject: 'culvert.v1.renew.node1' }, publicKeysPem],
    ['another key', asked, [other.publicKey]],
    ['no key', asked, []],
  ];
  for (const [what, wanted, keys] of refused) {
    const open = () => openAnswer({ asked: wanted, bytes: sealed, publicKeysPem: keys });
    assert.throws(open, { code: 'SIGNATURE_INVALID' }, what);
  }
});

test('a changed payload, a bare answer and an answer in a foreign context do not verify', () => {
  const payload = Buffer.from(JSON.stringify({ ...answer, rootsPem: 'other roots' })).toString('base64');
  const changed = change(sealed, (envelope) => (envelope['payload'] = payload));
  assert.throws(() => openAnswer({ asked, bytes: changed, publicKeysPem }), { code: 'SIGNATURE_INVALID' });
  assert.throws(() => openAnswer({ asked, bytes: encodeJson(answer), publicKeysPem }), { code: 'PAYLOAD_INVALID' });
  const asSnapshot = signEnvelope(
    { context: 'culvert.snapshot.v2', about: '0' },
    encodePayload(answer, 1000, 'tests'),
    key.privateKey,
  );
  assert.throws(() => openAnswer({ asked, bytes: encodeJson(asSnapshot), publicKeysPem }), {
    code: 'SIGNATURE_INVALID',
  });
});

test('an answer beyond the limit is neither sealed nor opened', () => {
  const large = { rootsPem: 'x'.repeat(maxAnswerBytes) };
  assert.throws(() => sealAnswer({ asked, answer: large, privateKeyPem: key.privateKey }), {
    code: 'PAYLOAD_TOO_LARGE',
  });
  const bytes = Buffer.alloc(2 * maxAnswerBytes, ' ');
  assert.throws(() => openAnswer({ asked, bytes, publicKeysPem }), { code: 'PAYLOAD_TOO_LARGE' });
});

test('the largest answer fits into the 1 MiB that nats-server takes by default', () => {
  const largest = { rootsPem: 'x'.repeat(maxAnswerBytes - 20) };
  const bytes = sealAnswer({ asked, answer: largest, privateKeyPem: key.privateKey });
  assert.ok(bytes.length <= 1_048_576, String(bytes.length));
});
