import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { WrapFile } from '../../../../controller/inventory/inventory.js';
import { Distribution } from '../../../../controller/publish/distribution.js';
import { RevisionCompiler } from '../../../../controller/release/compiled-revision.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import { defaultHistoryLimits } from '../../../../controller/store/history.js';
import { openStore } from '../../../../controller/store/open-store.js';
import type { ResourceStore } from '../../../../controller/store/resource-store.js';
import { buckets, rulesPointerKey } from '../../../../shared/bus/subjects.js';
import { newDeferred } from '../../../../shared/deferred.js';
import { CulvertError } from '../../../../shared/errors.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import { isPageKey } from '../../../../shared/wire/registry-leaf.js';
import { registryRootKey } from '../../../../shared/wire/registry-root.js';
import {
  documents,
  ruleDocument,
  silentLog,
  temporaryDirectory,
  workloadDocument,
} from '../../../support/controller/controller-fixture.js';
import { found, serviceEntry, trustDomain } from '../../../support/controller/inventory-fixture.js';
import { MemoryBus } from '../../../support/controller/memory-bus.js';
import { publishedRegistry } from '../../../support/controller/published-registry.js';

const { privateKey: privateKeyPem, publicKey: publicKeyPem } = generateSigningKey();

/** One life of a controller's store. */
async function live(
  o: { readonly stateDir: string; readonly nats: MemoryBus; readonly wrapInventory?: WrapFile },
  act: (store: ResourceStore) => Promise<void>,
): Promise<void> {
  const { stateDir, nats, wrapInventory } = o;
  const { store, close } = await openStore({
    stateDir,
    trustDomain,
    builder: new RevisionCompiler({ trustDomain, privateKeyPem }),
    privateKeyPem,
    limits: defaultHistoryLimits,
    log: silentLog,
    nowMs: Date.now,
    ...(wrapInventory === undefined ? {} : { wrapInventory }),
  });
  try {
    store.attach(new Distribution({ bus: nats.bus, publicKeyPem }));
    await store.settle();
    await act(store);
  } finally {
    await store.idle();
    await close();
  }
}

function api(label: string): string {
  return workloadDocument('shop', 'api', { ip: '198.18.1.1', labels: { label } });
}

const apiId = { kind: 'Workload', namespace: 'shop', name: 'api' } as const;

function rule(priority: number, from: object = { workload: 'shop/api' }): string {
  const spec = { tier: 'team', priority, action: 'allow', from: [from], to: [{ workload: 'shop/db' }] };
  return ruleDocument('db', spec);
}

function apply(store: ResourceStore, ...texts: readonly string[]) {
  return store.apply({ parsed: parseDocuments(documents(...texts)), dryRun: false, by: 'test' });
}

function labelOf({ inventory }: ResourceStore): string | undefined {
  const entry = inventory.registry.published.get('workload.shop.api')?.entry;
  return entry?.kind === 'workload' ? entry.labels['label'] : undefined;
}

test('rules whose revisions begin again below those of the inventory still bring their workloads', async () => {
  await using directory = await temporaryDirectory();
  await live({ stateDir: directory.path, nats: new MemoryBus() }, async (store) => {
    for (const n of [1, 2, 3]) await apply(store, api(`old${n}`), rule(100 + n));
    assert.equal(store.inventory.revision, store.release.state.revision);
  });
  // The journal is lost, and NATS with it.
  await rm(path.join(directory.path, 'journal.log'));
  const nats = new MemoryBus();
  await live({ stateDir: directory.path, nats }, async (store) => {
    assert.deepEqual([store.release.state.revision, labelOf(store)], [1, 'old3']);
    await apply(store, api('new'), rule(200));
    assert.equal(labelOf(store), 'new');
  });
  await live({ stateDir: directory.path, nats }, async (store) => assert.equal(labelOf(store), 'new'));
});

test('a change of workloads does not overtake the part of an earlier change that the disk did not take', async () => {
  await using directory = await temporaryDirectory();
  const nats = new MemoryBus();
  let isFailing = false;
  const wrapInventory: WrapFile = (file) => ({
    append: async (changes) => {
      if (!isFailing) return file.append(changes);
      isFailing = false;
      throw new CulvertError({ code: 'JOURNAL_WRITE', message: 'the disk is full' });
    },
    replace: () => file.replace(),
    close: () => file.close(),
  });
  await live({ stateDir: directory.path, nats, wrapInventory }, async (store) => {
    const [reached, go] = [newDeferred(), newDeferred()];
    nats.beforeWrite = async ({ bucket }) => {
      if (bucket !== buckets.config) return;
      reached.resolve();
      await go.promise;
    };
    isFailing = true;
    const first = apply(store, api('first'), rule(100));
    await reached.promise;
    const second = apply(store, api('second'));
    await setImmediate();
    nats.beforeWrite = () => undefined;
    go.resolve();
    await assert.rejects(first, { code: 'PUBLISH_PENDING' });
    const isAcknowledged = await second.then(
      () => true,
      () => false,
    );
    await store.settle();
    assert.equal(labelOf(store), isAcknowledged ? 'second' : 'first');
    await apply(store, api('third'));
    assert.equal(labelOf(store), 'third');
  });
});

test('a workload is not published before the rules that came with it', async () => {
  await using directory = await temporaryDirectory();
  const nats = new MemoryBus();
  await live({ stateDir: directory.path, nats }, async (store) => {
    nats.beforeWrite = ({ key }) => {
      if (key === rulesPointerKey) throw new CulvertError({ code: 'BUS_TIMEOUT', message: 'no answer' });
    };
    await assert.rejects(apply(store, api('new'), rule(100)), { code: 'PUBLISH_PENDING' });
    await store.inventory.readDurable(() => undefined);
    for (let turn = 0; turn < 20; turn++) await setImmediate();
    const present = await nats.of(buckets.registry).keys();
    assert.ok(!present.includes('workload.shop.api'), 'published before its rules');
    nats.beforeWrite = () => undefined;
    await store.settle();
    assert.ok((await nats.of(buckets.registry).keys()).includes('workload.shop.api'));
  });
});

test('comparing everything while a change is being published leaves the pages that the root lists', async () => {
  await using directory = await temporaryDirectory();
  const nats = new MemoryBus();
  await live({ stateDir: directory.path, nats }, async (store) => {
    const [reached, go] = [newDeferred(), newDeferred()];
    nats.beforeWrite = async ({ key }) => {
      if (!isPageKey(key)) return;
      reached.resolve();
      await go.promise;
    };
    const added = apply(store, api('new'));
    await reached.promise;
    const settled = store.settle();
    const removed = store.delete({ ids: [apiId], by: 'test', dryRun: false });
    for (let turn = 0; turn < 20; turn++) await setImmediate();
    nats.beforeWrite = () => undefined;
    go.resolve();
    await Promise.all([added, settled, removed]);
    const { listed, entries } = publishedRegistry(await nats.of(buckets.registry).entries(), [publicKeyPem]);
    assert.deepEqual([listed.size, entries.length], [0, 0]);
    assert.deepEqual(await nats.of(buckets.config).keys(), []);
  });
});

test('rules learn of a service that a source changes while everything is being compared', async () => {
  await using directory = await temporaryDirectory();
  const nats = new MemoryBus();
  await live({ stateDir: directory.path, nats }, async (store) => {
    const source = store.inventory.source('second');
    await source.change({ upserts: [found(serviceEntry('web', '198.18.9.9', { app: 'old' }))], removals: [] });
    await apply(store, rule(100, { service: 'shop/web' }));
    const [reached, go] = [newDeferred(), newDeferred()];
    await nats.of(buckets.registry).delete(registryRootKey);
    nats.beforeWrite = async ({ key }) => {
      if (key !== registryRootKey) return;
      reached.resolve();
      await go.promise;
    };
    store.noteUnpublished();
    await reached.promise;
    await source.change({ upserts: [found(serviceEntry('web', '198.18.9.9', { app: 'new' }))], removals: [] });
    nats.beforeWrite = () => undefined;
    go.resolve();
    await store.idle();
    assert.match(JSON.stringify(store.release.snapshot.rules), /"app":"new"/);
  });
});

test('a change that cannot be noted when it begins is not made, and the next one is', async () => {
  await using directory = await temporaryDirectory();
  await live({ stateDir: directory.path, nats: new MemoryBus() }, async (store) => {
    await apply(store, api('first'), rule(100));
    const { revision } = store.release.state;
    const { sequence } = store.inventory;
    const noted: string[] = [];
    const refusing = () => Promise.reject(new CulvertError({ code: 'AUDIT_WRITE', message: 'the disk is full' }));
    const changes: Record<string, (begin: () => Promise<void>) => Promise<unknown>> = {
      'a rule': (begin) => store.apply({ parsed: parseDocuments(rule(200)), dryRun: false, by: 'test', begin }),
      'a workload': (begin) => store.apply({ parsed: parseDocuments(api('second')), dryRun: false, by: 'test', begin }),
      'a rollback': (begin) => store.rollback({ revision: 1, dryRun: false, by: 'test', begin }),
      'no workload': (begin) => store.delete({ ids: [apiId], by: 'test', dryRun: false, begin }),
    };
    for (const [what, change] of Object.entries(changes)) {
      await assert.rejects(change(refusing), { code: 'AUDIT_WRITE' }, what);
      assert.deepEqual(
        [store.release.state.revision, store.inventory.sequence, labelOf(store), store.isSettled],
        [revision, sequence, 'first', true],
        what,
      );
    }
    const before = (what: string) => () => {
      noted.push(`${what} at ${store.release.state.revision}`);
      return Promise.resolve();
    };
    await store.apply({ parsed: parseDocuments(rule(200)), dryRun: true, by: 'test', begin: before('dry run') });
    await store.apply({ parsed: parseDocuments(rule(100)), dryRun: false, by: 'test', begin: before('the same') });
    await store.apply({ parsed: parseDocuments(api('first')), dryRun: false, by: 'test', begin: before('the same') });
    for (const [what, change] of Object.entries(changes)) await change(before(what));
    assert.deepEqual(
      noted.map((text) => text.replace(/ at .*/, '')),
      Object.keys(changes),
    );
    assert.equal(noted[0], `a rule at ${revision}`);
  });
});
