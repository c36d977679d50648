import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Distribution } from '../../../../controller/publish/distribution.js';
import { RevisionCompiler } from '../../../../controller/release/compiled-revision.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import type { Resource } from '../../../../controller/resources/kinds/resource.js';
import { defaultHistoryLimits } from '../../../../controller/store/history.js';
import { openStore } from '../../../../controller/store/open-store.js';
import type { ResourceStore } from '../../../../controller/store/resource-store.js';
import { buckets } from '../../../../shared/bus/subjects.js';
import { generateSigningKey } from '../../../../shared/pki/signing-key.js';
import {
  documents,
  ruleDocument,
  silentLog,
  temporaryDirectory,
  workloadDocument,
} from '../../../support/controller/controller-fixture.js';
import { found, serviceEntry, trustDomain, workloadEntry } from '../../../support/controller/inventory-fixture.js';
import { MemoryBus } from '../../../support/controller/memory-bus.js';

const { privateKey: privateKeyPem, publicKey: publicKeyPem } = generateSigningKey();

/** Compiles for as long as it is told to, in steps. */
class SlowCompiler extends RevisionCompiler {
  isSlow = false;
  compiles = 0;

  override *building(
    ...what: Parameters<RevisionCompiler['building']>
  ): Generator<void, ReturnType<RevisionCompiler['build']>> {
    this.compiles++;
    while (this.isSlow) yield;
    return yield* super.building(...what);
  }
}

async function slowly(
  act: (o: {
    readonly store: ResourceStore;
    readonly compiler: SlowCompiler;
    readonly nats: MemoryBus;
  }) => Promise<void>,
): Promise<void> {
  await using directory = await temporaryDirectory();
  const compiler = new SlowCompiler({ trustDomain, privateKeyPem });
  const nats = new MemoryBus();
  const { store, close } = await openStore({
    stateDir: directory.path,
    trustDomain,
    builder: compiler,
    privateKeyPem,
    limits: defaultHistoryLimits,
    log: silentLog,
    nowMs: Date.now,
  });
  try {
    store.attach(new Distribution({ bus: nats.bus, publicKeyPem }));
    await store.settle();
    await act({ store, compiler, nats });
  } finally {
    compiler.isSlow = false;
    await store.idle();
    await close();
  }
}

const spec = { tier: 'team', priority: 1, action: 'deny', to: [{ service: 'shop/db' }] };
const text = ruleDocument('db', spec);
const [rule] = parseDocuments(documents(text)).resources as [Resource];
const changes: Readonly<Record<string, (store: ResourceStore) => Promise<unknown>>> = {
  'custom resources': (store) => store.takeCluster({ puts: [rule], deletes: [] }),
  documents: (store) => store.apply({ parsed: parseDocuments(documents(text)), dryRun: false, by: 'test' }),
};

for (const [what, change] of Object.entries(changes)) {
  test(`pods are published while rules compile that are ${what}`, async () => {
    await slowly(async ({ store, compiler, nats }) => {
      const cluster = store.inventory.source('kubernetes');
      await cluster.change({ upserts: [found(serviceEntry('db', '198.18.9.1', { app: 'a' }))], removals: [] });
      const { revision } = store.release.state;
      const before = compiler.compiles;
      compiler.isSlow = true;
      const changed = change(store);
      while (compiler.compiles === before) await setImmediate();
      await cluster.change({ upserts: [found(workloadEntry('new', { ip: '198.18.0.7' }))], removals: [] });
      while ((await nats.of(buckets.registry).get('workload.shop.new')) === undefined) await setImmediate();
      assert.equal(store.release.state.revision, revision, 'the rules are still being compiled');
      compiler.isSlow = false;
      await changed;
      assert.equal(store.release.state.revision, revision + 1);
      assert.equal(compiler.compiles, before + 1, 'a pod changes nothing in rules');
    });
  });

  test(`a service that changes while rules compile which name it counts: ${what}`, async () => {
    await slowly(async ({ store, compiler }) => {
      const cluster = store.inventory.source('kubernetes');
      const db = (app: string) => ({ upserts: [found(serviceEntry('db', '198.18.9.1', { app }))], removals: [] });
      await cluster.change(db('before'));
      const before = compiler.compiles;
      compiler.isSlow = true;
      const changed = change(store);
      while (compiler.compiles === before) await setImmediate();
      await cluster.change(db('after'));
      compiler.isSlow = false;
      await changed;
      assert.match(JSON.stringify(store.release.snapshot.rules), /"app":"after"/);
      assert.equal(compiler.compiles, before + 2);
    });
  });
}

test('rules are worked out again when people change workloads meanwhile, whose tests they must pass', async () => {
  await slowly(async ({ store, compiler }) => {
    const db = (ip: string) => {
      const parsed = parseDocuments(documents(workloadDocument('shop', 'db', { ip })));
      return store.apply({ parsed, dryRun: false, by: 'test' });
    };
    await db('198.18.0.1');
    const before = compiler.compiles;
    compiler.isSlow = true;
    const named = parseDocuments(documents(ruleDocument('db', { ...spec, to: [{ workload: 'shop/db' }] })));
    const changed = store.apply({ parsed: named, dryRun: false, by: 'test' });
    while (compiler.compiles === before) await setImmediate();
    await db('198.18.0.2');
    compiler.isSlow = false;
    await changed;
    assert.equal(compiler.compiles, before + 2);
  });
});

test('a question about custom resources is answered while a change compiles, and a change while a question is worked on', async () => {
  await slowly(async ({ store, compiler }) => {
    compiler.isSlow = true;
    const changing = store.apply({ parsed: parseDocuments(documents(text)), dryRun: false, by: 'test' });
    while (compiler.compiles === 0) await setImmediate();
    const compiles = compiler.compiles;
    const gone = new AbortController();
    const asking = store.takeCluster({ puts: [rule], deletes: [], dryRun: true, signal: gone.signal });
    // It is worked on, and not only waiting for the change.
    while (compiler.compiles === compiles) await setImmediate();
    gone.abort(new Error('gone'));
    await assert.rejects(asking, /gone/);
    compiler.isSlow = false;
    await changing;
  });
});
