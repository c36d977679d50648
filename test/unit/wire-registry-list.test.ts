import assert from 'node:assert/strict';
import { test } from 'node:test';
import { generateSigningKey } from '../../shared/pki/signing-key.js';
import { openRegistryList, sealRegistryList } from '../../shared/wire/registry-list.js';

const key = generateSigningKey();
const publicKeysPem = [key.publicKey];
const entries = new Map([
  ['workload.shop.web', 3],
  ['service.shop.web', 7],
]);
const digests = [`${'A'.repeat(43)}=`];
const list = { sequence: 7, entries, digests };
const bytes = sealRegistryList({ list, privateKeyPem: key.privateKey });

function change(edit: (envelope: Record<string, unknown>) => void): Uint8Array {
  const envelope = JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>;
  edit(envelope);
  return Buffer.from(JSON.stringify(envelope));
}

test('a list opens as it was sealed, and the same list gives the same bytes whatever its order', () => {
  assert.deepEqual(openRegistryList({ bytes, publicKeysPem }), list);
  const reversed = { sequence: 7, entries: new Map([...entries].reverse()), digests };
  assert.deepEqual(sealRegistryList({ list: reversed, privateKeyPem: key.privateKey }), bytes);
});

test('a list of another key, with another sequence or with changed bytes does not verify', () => {
  const other = generateSigningKey();
  const code = 'SIGNATURE_INVALID';
  assert.throws(() => openRegistryList({ bytes, publicKeysPem: [other.publicKey] }), { code });
  const later = change((envelope) => (envelope['sequence'] = 8));
  assert.throws(() => openRegistryList({ bytes: later, publicKeysPem }), { code });
  const emptied = change((envelope) => (envelope['payload'] = Buffer.from('{}').toString('base64')));
  assert.throws(() => openRegistryList({ bytes: emptied, publicKeysPem }), { code });
  assert.throws(() => openRegistryList({ bytes: Buffer.from('{}'), publicKeysPem }), { code: 'PAYLOAD_INVALID' });
});

test('50,000 workloads fit into one list', () => {
  const many = new Map(
    Array.from({ length: 50_000 }, (_, index) => [
      `workload.team-${index % 97}.service-name-${index}-5d9f7`,
      index + 1,
    ]),
  );
  const listed = {
    sequence: 50_000,
    entries: many,
    digests: digests.concat(...Array.from({ length: 200 }, () => digests)),
  };
  const large = sealRegistryList({ list: listed, privateKeyPem: key.privateKey });
  assert.ok(large.length < 1024 * 1024, `${large.length} bytes`);
  assert.equal(openRegistryList({ bytes: large, publicKeysPem }).entries.size, 50_000);
});
