import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { controllerPermissions } from '../../../controller/nats/agent-permissions.js';
import type { Bucket } from '../../../shared/bus/bucket.js';
import type { Bus } from '../../../shared/bus/bus.js';
import { connectBus } from '../../../shared/bus/connect-bus.js';
import { createUser, mintUserJwt } from '../../../shared/bus/nats-accounts.js';
import { buckets, controllerInboxPrefix, rulesPointerKey } from '../../../shared/bus/subjects.js';
import { CulvertError } from '../../../shared/errors.js';
import { createIssuingCa, createRootCa } from '../../../controller/ca/x509/certificate-authority.js';
import { createCsr } from '../../../shared/pki/certificate-request.js';
import { issueServerCertificate } from '../../../controller/ca/x509/mesh-certificates.js';
import { generateSigningKey, type SigningKey } from '../../../shared/pki/signing-key.js';
import { pointerTo, rulesPointerSchema, snapshotKey } from '../../../shared/wire/rules-pointer.js';
import { registryRootKey } from '../../../shared/wire/registry-root.js';
import { openRegistryEntry, openSnapshot, sealSnapshot } from '../../../shared/wire/signed.js';
import { startEmbeddedNats } from '../../../controller/nats/embedded-nats.js';
import { Distribution } from '../../../controller/publish/distribution.js';
import { RevisionCompiler } from '../../../controller/release/compiled-revision.js';
import { parseDocuments } from '../../../controller/resources/parse/parse-documents.js';
import { defaultHistoryLimits } from '../../../controller/store/history.js';
import type { Journal } from '../../../controller/store/journal.js';
import { openStore } from '../../../controller/store/open-store.js';
import type { ResourceStore } from '../../../controller/store/resource-store.js';
import type { InventoryLog } from '../../../controller/inventory/inventory-log.js';
import {
  documents,
  silentLog,
  temporaryDirectory,
  workloadDocument,
} from '../../support/controller/controller-fixture.js';
import { publishedRegistry } from '../../support/controller/published-registry.js';

const trustDomain = 'culvert.local';
const writes = new Set(['put', 'create', 'update', 'delete']);

/** Where a change is cut off: at which write, and whether the write itself still happens (its acknowledgement is lost). */
type Cut = { readonly atWrite: number; readonly isDone: boolean };

/** Counts the writes to NATS and the journal once it is armed, fails the one that the cut names, and all after it. */
class Saboteur {
  #cut: Cut | null = null;
  #count = 0;

  arm(cut: Cut): void {
    this.#cut = cut;
    this.#count = 0;
  }

  get hasStruck(): boolean {
    return this.#cut !== null && this.#count >= this.#cut.atWrite;
  }

  async write<T>(perform: () => Promise<T>): Promise<T> {
    this.#count += 1;
    if (this.#cut === null || this.#count < this.#cut.atWrite) return perform();
    if (this.#count === this.#cut.atWrite && this.#cut.isDone) await perform();
    throw new CulvertError({ code: 'BUS_DISCONNECTED', message: `cut at write ${this.#cut.atWrite}` });
  }

  bus(bus: Bus): Bus {
    return new Proxy(bus, {
      get: (target, name) =>
        name === 'bucket'
          ? async (bucketName: string, options: object) => this.#bucket(await target.bucket(bucketName, options))
          : Reflect.get(target, name, target),
    });
  }

  journal(journal: Journal): Pick<Journal, 'append' | 'checkpoint' | 'history'> {
    return {
      get history() {
        return journal.history;
      },
      append: (commit) => this.write(() => journal.append(commit)),
      checkpoint: (state) => this.write(() => journal.checkpoint(state)),
    };
  }

  inventory(file: InventoryLog): Pick<InventoryLog, 'append' | 'replace' | 'close'> {
    return {
      append: (changes) => this.write(() => file.append(changes)),
      replace: () => this.write(() => file.replace()),
      close: () => file.close(),
    };
  }

  #bucket(bucket: Bucket): Bucket {
    return new Proxy(bucket, {
      get: (target, name) => {
        const member: unknown = Reflect.get(target, name, target);
        if (typeof member !== 'function') return member;
        const call = (...args: unknown[]): unknown => Reflect.apply(member, target, args);
        if (typeof name !== 'string' || !writes.has(name)) return call;
        return (...args: unknown[]) => this.write(async () => call(...args));
      },
    });
  }
}

async function withNats(run: (bus: Bus, stateDir: string) => Promise<void>): Promise<void> {
  await using directory = await temporaryDirectory();
  const root = await createRootCa({ trustDomain });
  const issuer = await createIssuingCa({ root, trustDomain });
  const { csrPem, privateKeyPem } = await createCsr({ commonName: 'nats' });
  const { chainPem } = await issueServerCertificate({
    issuer,
    csrPem,
    dnsNames: ['nats'],
    ipAddresses: ['127.0.0.1'],
    ttlMs: 3_600_000,
  });
  await using server = await startEmbeddedNats({
    stateDir: path.join(directory.path, 'nats'),
    listen: { host: '127.0.0.1', port: 0 },
    tls: { chainPem, privateKeyPem },
    log: silentLog,
    onRefused: () => undefined,
  });
  const user = createUser();
  await using bus = await connectBus({
    servers: [`127.0.0.1:${server.port}`],
    tls: { caPem: root.rootPem },
    auth: {
      kind: 'jwt',
      jwt: mintUserJwt({
        account: server.account,
        userPublicKey: user.publicKey,
        name: 'test',
        permissions: controllerPermissions,
        expiresAtMs: null,
      }),
      seed: user.seed,
    },
    name: 'test',
    inboxPrefix: controllerInboxPrefix,
    signal: new AbortController().signal,
  });
  await run(bus, directory.path);
}

/** What one life of a controller does with the store, up to the crash. */
async function live<T>(
  o: { bus: Bus; stateDir: string; key: SigningKey; saboteur?: Saboteur },
  act: (store: ResourceStore) => Promise<T>,
): Promise<T> {
  const { store, close } = await openStore({
    stateDir: o.stateDir,
    trustDomain,
    builder: new RevisionCompiler({ trustDomain, privateKeyPem: o.key.privateKey }),
    privateKeyPem: o.key.privateKey,
    limits: defaultHistoryLimits,
    log: silentLog,
    nowMs: Date.now,
    wrapJournal: (journal) => o.saboteur?.journal(journal) ?? journal,
    wrapInventory: (file) => o.saboteur?.inventory(file) ?? file,
  });
  try {
    store.attach(new Distribution({ bus: o.saboteur?.bus(o.bus) ?? o.bus, publicKeyPem: o.key.publicKey }));
    return await act(store);
  } finally {
    await store.idle();
    await close();
  }
}

/** What agents see, read from NATS alone. */
async function published(bus: Bus, key: SigningKey) {
  const rules = await bus.bucket(buckets.rules);
  const pointer = rulesPointerSchema.parse(
    JSON.parse(Buffer.from((await rules.get(rulesPointerKey))?.value ?? []).toString('utf8')),
  );
  const publicKeysPem = [key.publicKey];
  const sealed = (await rules.get(pointer.key))?.value ?? new Uint8Array();
  const registryBucket = await bus.bucket(buckets.registry);
  const { listed, entries } = publishedRegistry(await registryBucket.entries(), publicKeysPem);
  const registry = entries.map(({ key: at, value }) => ({
    at,
    ...openRegistryEntry({ bytes: value, key: at, publicKeysPem }),
  }));
  assert.deepEqual(listed, new Map(registry.map(({ at, sequence }) => [at, sequence])), 'the pages name just these');
  const config = await (await bus.bucket(buckets.config)).entries();
  return {
    snapshot: openSnapshot({ bytes: sealed, publicKeysPem }),
    labels: registry
      .map(({ entry }) => (entry.kind === 'workload' ? `${entry.name}=${entry.labels['round'] ?? ''}` : entry.name))
      .sort(),
    configKeys: config.map((entry) => entry.key).sort(),
    configText: config.map((entry) => Buffer.from(entry.value).toString('utf8')).join('\n'),
  };
}

function round(number: number): string {
  const labels = { round: `r${number}` };
  return documents(
    workloadDocument('shop', 'api', { ip: '198.18.1.1', labels }),
    workloadDocument('shop', 'db', { ip: '198.18.1.2', labels }),
    JSON.stringify({
      apiVersion: 'culvert.dev/v1',
      kind: 'SegmentationRule',
      metadata: { name: 'db' },
      spec: {
        tier: 'team',
        priority: 100 + number,
        action: 'allow',
        from: [{ workload: 'shop/api' }],
        to: [{ workload: 'shop/db' }],
      },
    }),
  );
}

test('a change that is cut off at any write is there as a whole or not at all after a restart', async () => {
  await withNats(async (bus, stateDir) => {
    const key = generateSigningKey();
    await live({ bus, stateDir, key }, (store) => store.settle());
    let number = 0;
    await live({ bus, stateDir, key }, async (store) => {
      await store.settle();
      await store.apply({ parsed: parseDocuments(round(number)), dryRun: false, by: 'test' });
    });
    const outcomes = { undone: 0, completed: 0 };
    for (const isDone of [false, true]) {
      let hasStruck = true;
      for (let atWrite = 1; hasStruck; atWrite++) {
        assert.ok(atWrite < 40, 'a change takes fewer writes than this');
        const before = await published(bus, key);
        number += 1;
        const saboteur = new Saboteur();
        // The keeper has settled the store before: only the writes of the change itself are cut.
        const code = await live({ bus, stateDir, key, saboteur }, async (store) => {
          await store.settle();
          saboteur.arm({ atWrite, isDone });
          return store.apply({ parsed: parseDocuments(round(number)), dryRun: false, by: 'test' }).then(
            () => 'OK',
            (error: unknown) => (error instanceof CulvertError ? error.code : String(error)),
          );
        });
        hasStruck = saboteur.hasStruck;
        await live({ bus, stateDir, key }, (store) => store.settle());
        const after = await published(bus, key);
        const where = `write ${atWrite}, ${isDone ? 'acknowledgement lost' : 'not done'}: ${code}`;
        const isNew = after.snapshot.rules[0]?.priority === 100 + number;
        assert.deepEqual(
          after.labels,
          [`api=r${isNew ? number : number - 1}`, `db=r${isNew ? number : number - 1}`],
          where,
        );
        assert.deepEqual(after.configKeys, ['SegmentationRule.-.db', 'Workload.shop.api', 'Workload.shop.db'], where);
        assert.equal(after.configText.includes(`"r${number}"`), isNew, where);
        assert.ok(after.snapshot.revision >= before.snapshot.revision, where);
        if (code === 'OK' || code === 'PUBLISH_PENDING') assert.ok(isNew, `${where}: said that it happened`);
        else if (code === 'STORE_UNAVAILABLE') {
          // Only a journal record whose acknowledgement was lost may count although it was refused.
          assert.ok(!isNew || isDone, `${where}: said that nothing changed`);
        } else assert.fail(where);
        if (!isNew) {
          // The next round builds on what is there.
          await live({ bus, stateDir, key }, async (store) => {
            await store.settle();
            await store.apply({ parsed: parseDocuments(round(number)), dryRun: false, by: 'test' });
          });
        }
        outcomes[isNew ? 'completed' : 'undone'] += 1;
      }
    }
    assert.ok(outcomes.undone >= 4, JSON.stringify(outcomes));
    assert.ok(outcomes.completed >= 8, JSON.stringify(outcomes));
  });
});

test('a half-made change is completed from its intent when the journal is lost', async () => {
  await withNats(async (bus, stateDir) => {
    const key = generateSigningKey();
    await live({ bus, stateDir, key }, async (store) => {
      await store.settle();
      await store.apply({ parsed: parseDocuments(round(1)), dryRun: false, by: 'test' });
    });
    // Cut after the intent (2 writes), the snapshot, the journal and the first document.
    const saboteur = new Saboteur();
    await live({ bus, stateDir, key, saboteur }, async (store) => {
      await store.settle();
      saboteur.arm({ atWrite: 6, isDone: false });
      await assert.rejects(store.apply({ parsed: parseDocuments(round(2)), dryRun: false, by: 'test' }), {
        code: 'PUBLISH_PENDING',
      });
    });
    await using elsewhere = await temporaryDirectory();
    await live({ bus, stateDir: elsewhere.path, key }, async (store) => {
      await store.settle();
      assert.equal(store.release.state.revision, 3);
    });
    assert.deepEqual((await published(bus, key)).labels, ['api=r2', 'db=r2']);
  });
});

test('a store that another controller signed is left alone', async () => {
  await withNats(async (bus, stateDir) => {
    const key = generateSigningKey();
    await live({ bus, stateDir, key }, async (store) => {
      await store.settle();
      await store.apply({ parsed: parseDocuments(round(1)), dryRun: false, by: 'test' });
    });
    const before = await published(bus, key);
    await using elsewhere = await temporaryDirectory();
    await live({ bus, stateDir: elsewhere.path, key: generateSigningKey() }, async (store) => {
      await assert.rejects(store.settle(), { code: 'STORE_FOREIGN' });
      const change = store.apply({ parsed: parseDocuments(round(2)), dryRun: false, by: 'test' });
      await assert.rejects(change, { code: 'STORE_UNAVAILABLE' });
    });
    assert.deepEqual(await published(bus, key), before);
  });
});

test('foreign changes in the buckets are corrected', async () => {
  await withNats(async (bus, stateDir) => {
    const key = generateSigningKey();
    await live({ bus, stateDir, key }, async (store) => {
      await store.settle();
      await store.apply({ parsed: parseDocuments(round(1)), dryRun: false, by: 'test' });
    });
    const before = await published(bus, key);
    const registry = await bus.bucket(buckets.registry);
    const rules = await bus.bucket(buckets.rules);
    await registry.delete('workload.shop.db');
    await registry.put('workload.shop.forged', new TextEncoder().encode('{}'));
    await registry.put(registryRootKey, new TextEncoder().encode('{}'));
    await registry.put('list.0.0', new TextEncoder().encode('{}'));
    await registry.put('list.1.0', new TextEncoder().encode('{}'));
    await rules.put(rulesPointerKey, new TextEncoder().encode('garbage'));
    await rules.delete(`snapshot.${before.snapshot.revision}`);
    await live({ bus, stateDir, key }, async (store) => {
      await store.settle();
      assert.equal(await store.holds(), true);
    });
    assert.deepEqual(await published(bus, key), before);
  });
});

test('forged rules under a future revision are replaced without a new revision', async () => {
  await withNats(async (bus, stateDir) => {
    const key = generateSigningKey();
    const rules = await bus.bucket(buckets.rules, { create: { history: 1, maxBytes: -1, replicas: 1 } });
    const forge = async (revision: number): Promise<void> => {
      const { snapshot } = await published(bus, key);
      const forged = { ...snapshot, revision };
      const sealed = sealSnapshot({ snapshot: forged, privateKeyPem: generateSigningKey().privateKey });
      await rules.put(snapshotKey(revision), sealed);
      await rules.put(rulesPointerKey, new TextEncoder().encode(JSON.stringify(pointerTo(revision, sealed))));
    };
    await live({ bus, stateDir, key }, async (store) => {
      await store.settle();
      await store.apply({ parsed: parseDocuments(round(1)), dryRun: false, by: 'test' });
      const { revision } = store.release.state;
      await forge(revision + 1);
      await store.apply({ parsed: parseDocuments(round(2)), dryRun: false, by: 'test' });
      assert.equal((await published(bus, key)).snapshot.revision, revision + 1);
      await forge(revision + 100);
      assert.equal(await store.holds(), false);
      await store.settle();
      const { snapshot, labels } = await published(bus, key);
      assert.equal(snapshot.revision, revision + 1);
      assert.deepEqual(labels, ['api=r2', 'db=r2']);
    });
  });
});
