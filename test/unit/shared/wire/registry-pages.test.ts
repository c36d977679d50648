import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import * as fc from 'fast-check';
import { listedEntry, RegistryPages, type ListedEntry } from '../../../../controller/inventory/registry-pages.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { keyHash, leafHas, pageKeyOf } from '../../../../shared/wire/registry-leaf.js';
import { decodeRegistryPage, pageDigest } from '../../../../shared/wire/registry-page.js';
import { openRegistryRoot, pageOfHash, sealRegistryRoot } from '../../../../shared/wire/registry-root.js';
import { signEnvelope } from '../../../../shared/wire/signed-envelope.js';

const key = generateSigningKey();
const publicKeysPem = [key.publicKey];
const digest = `${'A'.repeat(43)}=`;
const privateKeyPem = key.privateKey;

function leaf(depth: number, start: number) {
  return { depth, start, key: pageKeyOf({ depth, start }), digest };
}

const root = { sequence: 7, pages: [leaf(1, 0), leaf(2, 2 ** 31), leaf(2, 2 ** 31 + 2 ** 30)] };
const bytes = sealRegistryRoot({ root, privateKeyPem });

function change(edit: (envelope: Record<string, unknown>) => void): Uint8Array {
  const envelope = JSON.parse(Buffer.from(bytes).toString()) as Record<string, unknown>;
  edit(envelope);
  return Buffer.from(JSON.stringify(envelope));
}

/** `from`: number of the first. Sealed bytes are kept, as the controller keeps them. */
const made = new Map<string, ListedEntry>();
function entries(count: number, from = 0): ListedEntry[] {
  return Array.from({ length: count }, (_, at) => {
    const name = `workload.team-${(from + at) % 97}.service-name-${from + at}-5d9f7`;
    const entry = made.get(name) ?? listedEntry({ key: name, sequence: from + at + 1, sealed: Buffer.from(name) });
    made.set(name, entry);
    return entry;
  });
}

/** Brings the pages to these entries, and no others. */
function built(listed: readonly ListedEntry[], pages = new RegistryPages()) {
  const wanted = new Set(listed.map((entry) => entry.key));
  const gone = [...pages.entries()].filter((entry) => !wanted.has(entry.key));
  for (const entry of gone) pages.delete(entry.key);
  for (const entry of listed) if (pages.get(entry.key) !== entry) pages.put(entry);
  const { root, changed } = pages.update(100);
  return { root, pages: pages.published, changed };
}

describe('the root of the registry', () => {
  test('opens as it was sealed', () => {
    assert.deepEqual(openRegistryRoot({ bytes, publicKeysPem }), root);
  });

  test('does not verify with another key, another sequence, changed bytes or as another kind of message', () => {
    const code = 'SIGNATURE_INVALID';
    assert.throws(() => openRegistryRoot({ bytes, publicKeysPem: [generateSigningKey().publicKey] }), { code });
    const later = change((envelope) => (envelope['sequence'] = 8));
    assert.throws(() => openRegistryRoot({ bytes: later, publicKeysPem }), { code });
    const emptied = change((envelope) => (envelope['payload'] = ''));
    assert.throws(() => openRegistryRoot({ bytes: emptied, publicKeysPem }), { code });
    const payload = Buffer.from((JSON.parse(Buffer.from(bytes).toString()) as { payload: string }).payload, 'base64');
    const other = signEnvelope({ context: 'culvert.registry.v1', about: '7' }, payload, privateKeyPem);
    const foreign = Buffer.from(JSON.stringify({ ...other, sequence: 7 }));
    assert.throws(() => openRegistryRoot({ bytes: foreign, publicKeysPem }), { code });
    assert.throws(() => openRegistryRoot({ bytes: Buffer.from('{}'), publicKeysPem }), { code: 'PAYLOAD_INVALID' });
    const large = Buffer.alloc(2 * 1024 * 1024, ' ');
    assert.throws(() => openRegistryRoot({ bytes: large, publicKeysPem }), { code: 'PAYLOAD_TOO_LARGE' });
  });

  const record = (depth: number): Buffer => Buffer.concat([Buffer.from([depth]), Buffer.alloc(32)]);
  const malformed: readonly [string, Buffer][] = [
    ['has no page', Buffer.alloc(0)],
    ['leaves keys out', record(1)],
    ['has keys twice', Buffer.concat([record(0), record(0)])],
    ['has pages that overlap', Buffer.concat([record(2), record(1), record(2)])],
    ['is cut short', Buffer.concat([record(1), record(1).subarray(1)])],
    ['goes deeper than a tree may', Buffer.concat([record(21), record(0)])],
  ];
  for (const [what, payload] of malformed) {
    test(`is refused when it ${what}, by any signer`, () => {
      const envelope = signEnvelope({ context: 'culvert.registry-root.v1', about: '7' }, payload, privateKeyPem);
      const sealed = Buffer.from(JSON.stringify({ ...envelope, sequence: 7 }));
      assert.throws(() => openRegistryRoot({ bytes: sealed, publicKeysPem }), { code: 'PAYLOAD_INVALID' });
    });
  }
});

describe('a page of the registry', () => {
  const whole = { depth: 0, start: 0 };
  const code = 'PAYLOAD_INVALID';

  test('is refused when it is no page, too large once unpacked, or names a key of another page', () => {
    const name = 'workload.shop.web';
    const page = gzipSync(JSON.stringify({ entries: { [name]: 3 }, digest }));
    assert.deepEqual(decodeRegistryPage({ bytes: page, leaf: whole }), { entries: new Map([[name, 3]]), digest });
    const wrong = leafHas({ depth: 1, start: 0 }, keyHash(name)) ? 2 ** 31 : 0;
    assert.throws(() => decodeRegistryPage({ bytes: page, leaf: { depth: 1, start: wrong } }), { code });
    assert.throws(() => decodeRegistryPage({ bytes: Buffer.from('{}'), leaf: whole }), { code });
    const bomb = gzipSync(Buffer.alloc(64 * 1024 * 1024, ' '));
    assert.throws(() => decodeRegistryPage({ bytes: bomb, leaf: whole }), { code });
    for (const odd of [{ entries: { a: 0 }, digest }, { entries: {} }, { entries: {}, digest, more: 1 }]) {
      const packed = gzipSync(JSON.stringify(odd));
      assert.throws(() => decodeRegistryPage({ bytes: packed, leaf: whole }), { code });
    }
  });
});

describe('the pages of a registry', () => {
  test('name every entry once, where its hash leads, and an empty registry has one empty page', () => {
    for (const count of [0, 1, 512, 513, 10_000]) {
      const listed = entries(count);
      const tree = built(listed);
      const opened = openRegistryRoot({ bytes: sealRegistryRoot({ root: tree.root, privateKeyPem }), publicKeysPem });
      assert.deepEqual(opened, tree.root);
      assert.equal(tree.pages.size, opened.pages.length);
      let found = 0;
      for (const page of opened.pages) {
        const stored = tree.pages.get(page.key) ?? assert.fail(page.key);
        assert.equal(pageDigest(stored), page.digest);
        const named = [...decodeRegistryPage({ bytes: stored, leaf: page }).entries.keys()];
        assert.ok(named.every((at) => pageOfHash(opened, keyHash(at)) === page));
        assert.ok(named.length <= 512);
        found += named.length;
      }
      assert.equal(found, count);
    }
  });

  test('are the same whatever was published before, and whatever the order', () => {
    const builder = new RegistryPages();
    built(entries(3000), builder);
    const after = built(entries(1500, 700), builder);
    const rebuilt = built(entries(1500, 700).reverse());
    assert.deepEqual(after.root, rebuilt.root);
    assert.deepEqual(after.pages, rebuilt.pages);
  });

  test('are the same as those made at once after any changes, one by one', () => {
    const all = entries(1400);
    fc.assert(
      fc.property(fc.array(fc.nat({ max: all.length - 1 }), { minLength: 600, maxLength: 2400 }), (order) => {
        const pages = new RegistryPages();
        const present = new Map<string, ListedEntry>();
        for (const position of order) {
          const entry = all[position] ?? assert.fail();
          if (present.delete(entry.key)) pages.delete(entry.key);
          else {
            present.set(entry.key, entry);
            pages.put(entry);
          }
        }
        const atOnce = built([...present.values()]);
        assert.deepEqual(pages.update(100).root, atOnce.root);
        assert.deepEqual(pages.published, atOnce.pages);
      }),
      { numRuns: 30 },
    );
  });

  test('change in one place when one of 50,000 workloads does, which costs less than 16 KiB', () => {
    const builder = new RegistryPages();
    const listed = entries(50_000);
    const before = built(listed, builder);
    assert.equal(before.changed.size, before.pages.size);
    const { key: at } = listed[777] ?? assert.fail();
    const changed = listedEntry({ key: at, sequence: 50_001, sealed: Buffer.from('changed') });
    const after = built(listed.with(777, changed), builder);
    const [page = '', ...others] = after.changed.keys();
    assert.deepEqual(others, []);
    const cost = sealRegistryRoot({ root: after.root, privateKeyPem }).length + (after.pages.get(page)?.length ?? 0);
    assert.ok(cost < 16 * 1024, `${cost} bytes`);
    const added = built([...listed, ...entries(1, 60_000)], builder);
    // With the page of the entry that is as it was again.
    assert.ok(added.changed.size <= 3, 'a page, or the two that it was split into');
  });

  test('hold also keys made up to have one hash', () => {
    const same: ListedEntry[] = [];
    const leading = keyHash('workload.a.0') >>> 20;
    for (let at = 0; same.length < 600; at++) {
      const name = `workload.a.${at}`;
      if (keyHash(name) >>> 20 === leading)
        same.push(listedEntry({ key: name, sequence: 1, sealed: Buffer.from(name) }));
    }
    const tree = built(same);
    assert.ok(tree.pages.size > 10);
    assert.ok(openRegistryRoot({ bytes: sealRegistryRoot({ root: tree.root, privateKeyPem }), publicKeysPem }));
  });
});
