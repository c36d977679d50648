import assert from 'node:assert/strict';
import { open, readdir, readFile, stat, writeFile, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { Inventory } from '../../../../controller/inventory/inventory.js';
import { encodeLine } from '../../../../controller/records/record-line.js';
import type { NodeName } from '../../../../shared/routing/names.js';
import { silentLog } from '../../../support/controller/controller-fixture.js';
import { nodeNamed } from '../../../support/routing/names.js';
import {
  found,
  inventoryDirectory,
  publishedOf,
  serviceEntry,
  trustDomain,
  workloadDocument,
  workloadEntry,
} from '../../../support/controller/inventory-fixture.js';

const ip = (last: number): string => `198.18.0.${last}`;

/** A document as the store applies it. */
function put(inventory: Inventory, name: string, address: string): Promise<number> {
  const document = workloadDocument(name, { ip: address });
  return inventory.change(
    'documents',
    () => ({ upserts: [inventory.entryOf({ ...document, revision: inventory.sequence + 1 })], removals: [] }),
    () => ({ isKept: true, value: inventory.sequence }),
  );
}

test('what each source said is there after the inventory is opened again, as a whole and one by one', async () => {
  await using directory = await inventoryDirectory();
  let published: string[];
  {
    await using inventory = await directory.open({ isNew: true });
    const second = inventory.source('second');
    await put(inventory, 'api', ip(1));
    assert.deepEqual(
      await second.replaceAll([found(workloadEntry('a', { ip: ip(2) })), found(serviceEntry('s', ip(9)))]),
      {
        sequence: 3,
        changes: 2,
        conflicts: [],
      },
    );
    await second.change({
      upserts: [found(workloadEntry('b', { ip: ip(3) }))],
      removals: ['workload.shop.a', 'workload.shop.none'],
    });
    const { changes, sequence } = await second.replaceAll([
      found(workloadEntry('b', { ip: ip(3) })),
      found(workloadEntry('c', { ip: ip(1) })),
    ]);
    assert.deepEqual([changes, sequence], [2, 5]);
    published = publishedOf(inventory);
    assert.deepEqual(published, [
      'workload.shop.api@2 198.18.0.1',
      'workload.shop.b@4 198.18.0.3',
      'workload.shop.c@5 ',
    ]);
    assert.deepEqual(inventory.registry.conflicts, [
      {
        claim: ip(1),
        winner: { source: 'documents', key: 'workload.shop.api' },
        loser: { source: 'second', key: 'workload.shop.c' },
      },
    ]);
  }
  assert.equal((await stat(directory.file)).mode & 0o777, 0o600);
  await using inventory = await directory.open();
  assert.deepEqual([publishedOf(inventory), inventory.sequence, inventory.isUsable], [published, 5, true]);
  assert.deepEqual([...inventory.documents.keys()], ['workload.shop.api']);
  // The same again is no change.
  const same = await inventory
    .source('second')
    .replaceAll([found(workloadEntry('b', { ip: ip(3) })), found(workloadEntry('c', { ip: ip(1) }))]);
  assert.deepEqual([same.changes, same.sequence], [0, 5]);
  // What lost an address gets it when the winner is gone.
  await inventory.change(
    'documents',
    () => ({ upserts: [], removals: ['workload.shop.api'] }),
    () => ({ isKept: true, value: null }),
  );
  assert.deepEqual(publishedOf(inventory), ['workload.shop.b@4 198.18.0.3', 'workload.shop.c@6 198.18.0.1']);
});

test('sequences of what a conflict changed survive when the file is written as a whole', async () => {
  await using directory = await inventoryDirectory();
  let published: string[];
  {
    await using inventory = await directory.open({ isNew: true });
    const second = inventory.source('second');
    await second.replaceAll([found(workloadEntry('old', { ip: ip(1) })), found(workloadEntry('other', { ip: ip(7) }))]);
    await put(inventory, 'api', ip(1));
    await inventory.change(
      'documents',
      () => ({ upserts: [], removals: ['workload.shop.api'] }),
      () => ({ isKept: true, value: null }),
    );
    published = publishedOf(inventory);
    assert.deepEqual(published, ['workload.shop.old@4 198.18.0.1', 'workload.shop.other@2 198.18.0.7']);
    // Writes everything.
    await inventory.exclusively((turn) => turn.adopt([], { sequence: 1, revision: 3 }));
  }
  await using inventory = await directory.open();
  assert.deepEqual([publishedOf(inventory), inventory.sequence, inventory.revision], [published, 4, 3]);
});

test('a last record that was cut anywhere is dropped, and the inventory goes on', async () => {
  await using directory = await inventoryDirectory();
  {
    await using inventory = await directory.open({ isNew: true });
    await put(inventory, 'kept', ip(1));
  }
  const whole = await readFile(directory.file);
  const lost = encodeLine({
    kind: 'changes',
    changes: [{ sequence: 3, source: 'documents', upserts: [], removals: [] }],
  });
  for (const length of [1, 40, 65, lost.length - 2, lost.length - 1]) {
    await writeFile(directory.file, Buffer.concat([whole, lost.subarray(0, length)]));
    await using inventory = await directory.open();
    assert.deepEqual([inventory.sequence, inventory.isUsable], [2, true], `cut after ${length} bytes`);
    await put(inventory, 'next', ip(2));
  }
  await using inventory = await directory.open();
  assert.deepEqual(publishedOf(inventory), ['workload.shop.kept@2 198.18.0.1', 'workload.shop.next@3 198.18.0.2']);
});

test('damage moves the file aside, the name is said, and nothing changes until it is known what was in it', async () => {
  await using directory = await inventoryDirectory();
  {
    await using inventory = await directory.open({ isNew: true });
    for (let n = 1; n <= 3; n++) await put(inventory, `w${n}`, ip(n));
    await inventory.exclusively((turn) =>
      turn.adopt(
        [1, 2, 3].map((n) => workloadDocument(`w${n}`, { ip: ip(n) })),
        { sequence: 9, revision: 0 },
      ),
    );
  }
  const text = await readFile(directory.file, 'utf8');
  // A file whose last line is damaged may have been cut short, but not one that lacks what its header promises.
  for (const damaged of [text.replace('"w2"', '"w9"'), text.slice(0, -5), text.replace('"entries":3', '"entries":4')]) {
    await writeFile(directory.file, damaged);
    await using inventory = await directory.open();
    assert.deepEqual([inventory.isUsable, publishedOf(inventory)], [false, []]);
    assert.ok((await readdir(path.dirname(directory.file))).includes('inventory.log.corrupt-42'));
    let isMade = false;
    const waiting = put(inventory, 'late', ip(9)).then(() => (isMade = true));
    await inventory.readDurable(() => undefined);
    assert.equal(isMade, false);
    await inventory.exclusively((turn) =>
      turn.adopt([workloadDocument('w1', { ip: ip(1), revision: 5 })], { sequence: 9, revision: 4 }),
    );
    await waiting;
    assert.deepEqual(publishedOf(inventory), ['workload.shop.late@10 198.18.0.9', 'workload.shop.w1@5 198.18.0.1']);
  }
});

test('a file of a later version is left where it is', async () => {
  await using directory = await inventoryDirectory();
  const header = { kind: 'inventory', version: 2, sequence: 1, revision: 0, entries: 0, sequences: {} };
  await writeFile(directory.file, encodeLine(header));
  await assert.rejects(directory.open(), { code: 'STORE_INVALID' });
  assert.deepEqual(await readdir(path.dirname(directory.file)), ['inventory.log']);
});

test('changes that arrive together share writes, in the order in which they came', async () => {
  await using directory = await inventoryDirectory();
  let writes = 0;
  const inventory = await Inventory.open({
    path: directory.file,
    log: silentLog,
    nowMs: () => 42,
    trustDomain,
    wrapFile: (file) => ({
      append: (changes) => {
        writes += 1;
        return file.append(changes);
      },
      replace: () => file.replace(),
      close: () => file.close(),
    }),
  });
  try {
    await inventory.exclusively((turn) => turn.adopt([], { sequence: 1, revision: 0 }));
    const sequences = await Promise.all(
      Array.from({ length: 200 }, (_, n) => put(inventory, `w${n}`, `198.18.1.${n}`)),
    );
    assert.deepEqual(
      sequences,
      Array.from({ length: 200 }, (_, n) => n + 2),
    );
    assert.ok(writes <= 3, `${writes} writes`);
    // One that throws or is not kept disturbs none of the others.
    const change = () => ({ upserts: [found(workloadEntry('x', { ip: ip(1) }))], removals: [] });
    const [kept, refused, failed] = await Promise.allSettled([
      put(inventory, 'more', ip(2)),
      inventory.change('documents', change, () => ({ isKept: false, value: 'refused' })),
      inventory.change('documents', change, () => {
        throw new Error('no');
      }),
    ]);
    assert.deepEqual([kept.status, refused.status, failed.status], ['fulfilled', 'fulfilled', 'rejected']);
    assert.deepEqual([inventory.sequence, inventory.registry.published.has('workload.shop.x')], [202, false]);
  } finally {
    await inventory.close();
  }
});

test('a disk that fails changes nothing, the error names the file, and the next change goes through', async (t) => {
  await using directory = await inventoryDirectory();
  let published: string[];
  {
    await using inventory = await directory.open({ isNew: true });
    await put(inventory, 'kept', ip(1));
    const probe = await open(directory.file);
    const handles = Object.getPrototypeOf(probe) as FileHandle;
    await probe.close();
    const full = (): Promise<never> => Promise.reject(Object.assign(new Error('no space left'), { code: 'ENOSPC' }));
    for (const canRepair of [true, false]) {
      const datasync = t.mock.method(handles, 'datasync', full);
      const truncate = canRepair ? null : t.mock.method(handles, 'truncate', full);
      const lost = await Promise.allSettled([put(inventory, 'lost', ip(2)), put(inventory, 'kept', ip(3))]);
      datasync.mock.restore();
      truncate?.mock.restore();
      for (const one of lost) {
        assert.ok(one.status === 'rejected');
        const { code, message, hint } = one.reason as { code: string; message: string; hint: string };
        assert.equal(code, 'JOURNAL_WRITE');
        assert.match(`${message} ${hint}`, /inventory\.log.*no space left.*free space/);
      }
      assert.equal(inventory.registry.published.has('workload.shop.lost'), false);
      assert.equal(inventory.registry.ownerOf(ip(1))?.key, 'workload.shop.kept');
      await put(inventory, `after-${canRepair}`, canRepair ? ip(4) : ip(5));
    }
    published = publishedOf(inventory);
  }
  await using inventory = await directory.open();
  assert.deepEqual(publishedOf(inventory), published);
  assert.deepEqual([inventory.sequence, published.length], [4, 3]);
});

test('a file that grows long is written again while changes go on, and holds them all', async () => {
  await using directory = await inventoryDirectory();
  let published: string[];
  {
    await using inventory = await directory.open({ isNew: true });
    const long = 'x'.repeat(60_000);
    for (let n = 1; n <= 400; n++) {
      const entry = workloadEntry(`w${n % 5}`, { ip: `198.18.${n >> 8}.${n & 255}`, labels: { long } });
      await inventory.source('second').change({ upserts: [found(entry)], removals: [] });
    }
    published = publishedOf(inventory);
  }
  const { size } = await stat(directory.file);
  assert.ok(size < 12 * 1024 * 1024, `${size} bytes of 24 MB that were written`);
  assert.deepEqual(await readdir(path.dirname(directory.file)), ['inventory.log']);
  await using inventory = await directory.open();
  assert.deepEqual([publishedOf(inventory), inventory.sequence], [published, 401]);
});

test('on a disk that is too full to write the file again, changes do not try it every time', async (t) => {
  await using directory = await inventoryDirectory();
  await using inventory = await directory.open({ isNew: true });
  const probe = await open(directory.file);
  const handles = Object.getPrototypeOf(probe) as FileHandle;
  await probe.close();
  const full = (): Promise<never> => Promise.reject(Object.assign(new Error('no space left'), { code: 'ENOSPC' }));
  const writeWhole = t.mock.method(handles, 'writeFile', full);
  const long = 'x'.repeat(60_000);
  for (let n = 1; n <= 400; n++) {
    const entry = workloadEntry(`w${n % 5}`, { ip: `198.18.${n >> 8}.${n & 255}`, labels: { long } });
    await inventory.source('second').change({ upserts: [found(entry)], removals: [] });
  }
  const tries = writeWhole.mock.callCount();
  writeWhole.mock.restore();
  assert.ok(tries >= 1 && tries <= 3, `${tries} tries for 24 MB of changes`);
});

test('workloads of a removed node have no identity until it joins again or they move, also in a file that was compacted', async () => {
  await using directory = await inventoryDirectory();
  const [gone, other] = [nodeNamed('gone'), nodeNamed('other')];
  const on = (name: string, node: NodeName, last: number) =>
    found(workloadEntry(name, { ip: ip(last), node, netns: name }));
  const identitiesOf = ({ registry }: Inventory): string[] =>
    [...registry.published.values()].map(({ entry, sequence }) =>
      entry.kind === 'workload' ? `${entry.name}@${sequence} ${entry.identity.replace('spiffe://', '')}` : '',
    );
  const withdrawn = [
    'a@3 removed-node.culvert.invalid/ns/shop/sa/a',
    'b@2 culvert.local/ns/shop/sa/b',
    'c@4 removed-node.culvert.invalid/ns/shop/sa/c',
  ];
  {
    await using inventory = await directory.open({ isNew: true });
    const source = inventory.source('second');
    await source.replaceAll([on('a', gone, 1), on('b', other, 2)]);
    await inventory.withdrawIdentities(() => [gone]);
    await inventory.withdrawIdentities(() => [gone]);
    await source.change({ upserts: [on('c', gone, 3)], removals: [] });
    assert.deepEqual(identitiesOf(inventory), withdrawn);
    assert.equal(inventory.registry.hasIdentity(gone, workloadEntry('a').identity), false, 'nothing is signed for it');
  }
  {
    await using inventory = await directory.open();
    assert.deepEqual([identitiesOf(inventory), inventory.sequence], [withdrawn, 4]);
    // The file is written as a whole, and what is withdrawn gets a sequence above all that agents may have.
    await inventory.exclusively((turn) => turn.adopt([], { sequence: 9, revision: 0 }));
    assert.match(identitiesOf(inventory)[0] ?? '', /^a@10 removed-node/);
  }
  await using inventory = await directory.open();
  assert.match(identitiesOf(inventory)[0] ?? '', /^a@10 removed-node/);
  await inventory.source('second').change({ upserts: [on('a', other, 1)], removals: [] });
  assert.equal(identitiesOf(inventory)[0], 'a@11 culvert.local/ns/shop/sa/a', 'it has moved');
  await inventory.withdrawIdentities(() => []);
  assert.deepEqual(identitiesOf(inventory)[2], 'c@12 culvert.local/ns/shop/sa/c', 'its node has joined again');
});

test('a withdrawal that the disk does not take changes nothing', async () => {
  await using directory = await inventoryDirectory();
  const gone = nodeNamed('gone');
  await (await directory.open({ isNew: true })).close();
  const full = (): Promise<never> => Promise.reject(new Error('ENOSPC'));
  const inventory = await Inventory.open({
    path: directory.file,
    log: silentLog,
    nowMs: () => 42,
    trustDomain,
    wrapFile: (file) => ({ append: full, replace: full, close: () => file.close() }),
  });
  await assert.rejects(
    inventory.withdrawIdentities(() => [gone]),
    /ENOSPC/,
  );
  assert.equal(inventory.sequence, 1);
  await inventory.close();
});

test('a new number for everything is on disk, and published, with the number of every entry', async () => {
  await using directory = await inventoryDirectory();
  {
    await using inventory = await directory.open({ isNew: true });
    await put(inventory, 'api', ip(1));
    await inventory.source('second').replaceAll([found(serviceEntry('s', ip(9)))]);
    const published: string[] = [];
    inventory.onChange((changed) => published.push(...changed.published));
    await inventory.exclusively((turn) => turn.renumber(1030));
    assert.deepEqual(published.sort(), ['service.shop.s', 'workload.shop.api']);
    await put(inventory, 'db', ip(2));
  }
  await using inventory = await directory.open();
  assert.equal(inventory.sequence, 1031);
  assert.deepEqual(
    publishedOf(inventory).map((text) => text.split(' ')[0]),
    ['service.shop.s@1030', 'workload.shop.api@1030', 'workload.shop.db@1031'],
  );
});
