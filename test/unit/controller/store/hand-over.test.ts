import assert from 'node:assert/strict';
import { copyFile, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { encodeLine } from '../../../../controller/records/record-line.js';
import { RevisionCompiler } from '../../../../controller/release/compiled-revision.js';
import { defaultHistoryLimits } from '../../../../controller/store/history.js';
import { openStore, type OpenedStore } from '../../../../controller/store/open-store.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { silentLog, temporaryDirectory } from '../../../support/controller/controller-fixture.js';
import { publishedOf, trustDomain, workloadDocument } from '../../../support/controller/inventory-fixture.js';

const { privateKey: privateKeyPem } = generateSigningKey();

async function opened<T>(stateDir: string, look: (store: OpenedStore['store']) => T): Promise<T> {
  const builder = new RevisionCompiler({ trustDomain, privateKeyPem });
  const limits = defaultHistoryLimits;
  const { store, close } = await openStore({
    stateDir,
    trustDomain,
    builder,
    privateKeyPem,
    limits,
    log: silentLog,
    nowMs: Date.now,
  });
  try {
    return look(store);
  } finally {
    await close();
  }
}

function segment(name: string, revision: number) {
  const spec = { members: [{ namespace: 'shop' }] };
  const resource = { apiVersion: 'culvert.dev/v1', kind: 'Segment', metadata: { name }, spec };
  return { key: `Segment.-.${name}`, resource, revision, appliedAt: '2026-01-01T00:00:00.000Z', appliedBy: 'admin' };
}

function commit(revision: number, puts: readonly object[], o: object = {}): Buffer {
  const createdAt = '2026-01-01T00:00:00.000Z';
  return encodeLine({ kind: 'commit', revision, createdAt, createdBy: 'admin', puts, deletes: [], ...o });
}

const checkpoint = (resources: readonly object[], revision = 1): Buffer =>
  encodeLine({ kind: 'checkpoint', revision, createdAt: '2026-01-01T00:00:00.000Z', createdBy: 'admin', resources });

const [api, db] = [
  workloadDocument('api', { ip: '198.18.0.1', revision: 2 }),
  workloadDocument('db', { ip: '198.18.0.2', revision: 4 }),
];

test('a journal from before there was an inventory gives it its workloads, and keeps rules and history', async () => {
  await using directory = await temporaryDirectory();
  const journal = path.join(directory.path, 'journal.log');
  const old = Buffer.concat([
    checkpoint([]),
    commit(2, [api, segment('batch', 2)]),
    commit(3, [workloadDocument('gone', { ip: '198.18.0.3', revision: 3 })]),
    commit(4, [db, segment('more', 4)], { deletes: ['Workload.shop.gone'], message: 'CHG-1' }),
  ]);
  await writeFile(journal, old);
  const look = (store: OpenedStore['store']) => ({
    published: publishedOf(store.inventory),
    documents: [...store.inventory.documents.values()].map(({ document }) => document),
    sequence: store.inventory.sequence,
    revision: store.release.state.revision,
    rules: [...store.release.state.resources.keys()],
    config: [...store.release.config.keys()],
    history: store.history.records.map(({ commit: { revision, message }, changes }) => [
      revision,
      message ?? '',
      changes.map(({ kind, name, change }) => `${kind} ${name} ${change}`).join(', '),
    ]),
  });
  const moved = await opened(directory.path, look);
  assert.deepEqual(moved, {
    published: ['workload.shop.api@2 198.18.0.1', 'workload.shop.db@4 198.18.0.2'],
    documents: [api, db],
    sequence: 4,
    revision: 4,
    rules: ['Segment.-.batch', 'Segment.-.more'],
    config: ['Segment.-.batch', 'Segment.-.more'],
    history: [
      [2, '', 'Workload api created, Segment batch created'],
      [3, '', 'Workload gone created'],
      [4, 'CHG-1', 'Workload gone deleted, Workload db created, Segment more created'],
    ],
  });
  assert.deepEqual(await opened(directory.path, look), moved, 'the second start finds the same');

  // A crash after the inventory was written and before the journal says so.
  const inventory = await readFile(path.join(directory.path, 'inventory.log'));
  await writeFile(journal, old);
  assert.deepEqual(await opened(directory.path, look), moved);
  assert.deepEqual(await readFile(path.join(directory.path, 'inventory.log')), inventory);

  // A crash before the inventory was written.
  await rm(path.join(directory.path, 'inventory.log'));
  await writeFile(journal, old);
  assert.deepEqual(await opened(directory.path, look), moved);

  // Without it the journal must not bring back what is long gone.
  await rm(path.join(directory.path, 'inventory.log'));
  const lost = await opened(directory.path, (store) => [store.inventory.isUsable, ...publishedOf(store.inventory)]);
  assert.deepEqual(lost, [false]);
});

test('the part of a change that a crash cut off is taken at the next start, once', async () => {
  await using directory = await temporaryDirectory();
  const journal = path.join(directory.path, 'journal.log');
  const inventory = path.join(directory.path, 'inventory.log');
  await writeFile(journal, Buffer.concat([checkpoint([api], 2)]));
  await opened(directory.path, () => undefined);
  const before = path.join(directory.path, 'before');
  await copyFile(inventory, before);
  const part = { inventory: { puts: [db], deletes: ['Workload.shop.api'] } };
  await writeFile(journal, Buffer.concat([await readFile(journal), commit(3, [segment('batch', 3)], part)]));
  const look = (store: OpenedStore['store']) => [
    store.inventory.sequence,
    store.inventory.revision,
    ...publishedOf(store.inventory),
  ];
  const expected = [3, 3, 'workload.shop.db@3 198.18.0.2'];
  for (let start = 0; start < 3; start++) assert.deepEqual(await opened(directory.path, look), expected);
  // Cut off while the part was being written.
  const whole = await readFile(inventory);
  const { length: from } = await readFile(before);
  for (const cut of [from, from + 1, whole.length - 1]) {
    await writeFile(inventory, whole.subarray(0, cut));
    assert.deepEqual(await opened(directory.path, look), expected, `${cut} of ${whole.length} bytes`);
  }
});
