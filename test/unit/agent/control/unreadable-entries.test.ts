import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, test } from 'node:test';
import { RegistryFile } from '../../../../agent/control/state/registry-file.js';
import { LatestState } from '../../../../agent/dataplane/pool/latest-state.js';
import { RegistryIndex } from '../../../../agent/dataplane/route/registry-index.js';
import type { RegistryMessage } from '../../../../agent/dataplane/messages.js';
import type { IpAddress } from '../../../../shared/address.js';
import { registryKey, type RegistryEntry, type RegistryService } from '../../../../shared/routing/registry-entry.js';
import { nodeNamed, workloadNamed } from '../../../support/routing/names.js';
import { registryRootKey } from '../../../../shared/wire/registry-root.js';
import { sealRegistryEntry } from '../../../../shared/wire/signed.js';
import {
  controllerKey,
  foreignKey,
  listOf,
  newFollower,
  once,
  put,
  putAll,
  restored,
  seal,
  type Listed,
  type Sealed,
  workload,
} from '../../../support/agent/registry-fixture.js';

const webKey = registryKey(workload('web'));
const dbKey = registryKey(workload('db'));
const webIp = '198.18.10.1' as IpAddress;
const dbIp = '198.18.10.9' as IpAddress;
const movedIp = '198.18.10.10' as IpAddress;
const web = seal('web');

/** The entry as a newer controller would write it: with a key that this version does not know and must not pass over. */
function sealNewer(entry: RegistryEntry, o: { sequence: number; key?: typeof controllerKey }): Uint8Array {
  const newer: RegistryEntry = Object.assign({ fieldOfTheFuture: true, requires: ['fieldOfTheFuture'] }, entry);
  const { privateKey: privateKeyPem } = o.key ?? controllerKey;
  return sealRegistryEntry({ entry: newer, sequence: o.sequence, privateKeyPem });
}

function listed(entries: Sealed, sequence: number): { entries: Sealed; list: Listed } {
  return { entries, list: listOf(entries, { sequence }) };
}

/** What a worker that got all messages, and one that starts now, say of the address. */
function keysAt(messages: readonly RegistryMessage[], ip: IpAddress): (string | undefined)[] {
  const latest = new LatestState();
  const worker = new RegistryIndex();
  for (const message of messages) {
    const command = latest.absorb(message);
    if (command.type === 'registry') worker.apply(command);
  }
  const replacement = new RegistryIndex();
  for (const command of latest.replay()) if (command.type === 'registry') replacement.apply(command);
  return [worker.unreadableAt(ip), replacement.unreadableAt(ip)];
}

type Running = ReturnType<typeof newFollower>;

/** An agent with web, to which a newer controller then publishes db. */
async function withNewer(db: Uint8Array, before: Sealed = new Map([[webKey, web]])): Promise<Running> {
  const running = restored(before, listOf(before));
  const { entries, list } = listed(new Map([...before, [dbKey, db]]), 6);
  deliver(running, entries, list);
  await once('the list', () => running.seen.stale > 0);
  return running;
}

function deliver({ follower }: Running, entries: Sealed, { root, pages }: Listed): void {
  putAll(follower, entries);
  putAll(follower, pages);
  put(follower, registryRootKey, root);
}

describe('an entry of a newer controller', () => {
  test('that is new keeps its addresses closed in every worker', async () => {
    const { follower, seen } = await withNewer(sealNewer(workload('db', 9), { sequence: 6 }));
    assert.deepEqual(keysAt(seen.messages, dbIp), [dbKey, dbKey]);
    assert.deepEqual(keysAt(seen.messages, webIp), [undefined, undefined]);
    assert.deepEqual([follower.unreadable, follower.missing, seen.alarms], [1, 1, 1]);
    follower.close();
  });

  test('does not keep an agent that has just joined from a whole registry', async () => {
    const running = newFollower();
    const db = sealNewer(workload('db', 9), { sequence: 6 });
    const { entries, list } = listed(
      new Map([
        [webKey, web],
        [dbKey, db],
      ]),
      6,
    );
    deliver(running, entries, list);
    await once('the registry', () => running.seen.messages.length > 0);
    const [message] = running.seen.messages;
    assert.deepEqual([running.follower.isComplete, message?.isFull, message?.sequence], [true, true, undefined]);
    assert.deepEqual(keysAt(running.seen.messages, dbIp), [dbKey, dbKey]);
    running.follower.close();
  });

  test('says which workload has to be captured where, in doubt too', async () => {
    const node = nodeNamed('node1');
    const db: RegistryEntry = { ...workload('db', 9), node, netns: 'db', protocol: 'hbone' };
    const cases: readonly (readonly [object, string | undefined])[] = [
      [{}, 'db'],
      [{ protocol: 'of the future' }, 'db'],
      [{ netns: { form: 'of the future' } }, ''],
      [{ protocol: 'tcp' }, undefined],
      [{ netns: null }, undefined],
      [{ node: null }, undefined],
    ];
    for (const [change, netns] of cases) {
      const { follower } = await withNewer(sealNewer(Object.assign({}, db, change), { sequence: 6 }));
      const name = workloadNamed('shop/db');
      const expected = netns === undefined ? [] : [{ name, node, netns, addresses: [dbIp] }];
      assert.deepEqual(follower.unreadableWorkloads, expected, JSON.stringify(change));
      follower.close();
    }
  });

  test('of a service keeps its VIPs closed', async () => {
    const service: RegistryService = {
      kind: 'service',
      namespace: 'shop',
      name: 'api',
      vips: ['198.18.200.1' as IpAddress],
      ports: [],
      selector: {},
    };
    const key = registryKey(service);
    const running = restored(new Map([[webKey, web]]), listOf(new Map([[webKey, web]])));
    put(running.follower, key, sealNewer(service, { sequence: 6 }));
    await once('the change', () => running.seen.messages.length > 1);
    assert.deepEqual(keysAt(running.seen.messages, service.vips[0] ?? dbIp), [key, key]);
    running.follower.close();
  });

  test('leaves what could be read before in force, and closes the addresses that it adds', async () => {
    const before = new Map([
      [webKey, web],
      [dbKey, seal('db', { lastByte: 9 })],
    ]);
    const moved = { ...workload('db'), addresses: [dbIp, movedIp] };
    const { follower, seen } = await withNewer(sealNewer(moved, { sequence: 6 }), before);
    assert.equal(follower.entries.get(dbKey)?.sequence, 5);
    assert.deepEqual([keysAt(seen.messages, dbIp)[0], keysAt(seen.messages, movedIp)[0]], [undefined, dbKey]);
    follower.close();
  });

  test('is believed only when the controller signed it', async () => {
    const { follower, seen } = await withNewer(sealNewer(workload('db', 9), { sequence: 6, key: foreignKey }));
    assert.deepEqual([follower.unreadable, keysAt(seen.messages, dbIp)[0]], [0, undefined]);
    follower.close();
  });

  test('is not replaced by an older one that can be read', async () => {
    const { follower } = await withNewer(sealNewer(workload('db', 9), { sequence: 6 }));
    put(follower, dbKey, seal('db', { lastByte: 9, sequence: 5 }));
    assert.deepEqual([follower.entries.has(dbKey), follower.unreadable], [false, 1]);
    follower.close();
  });

  test('gives its addresses back when the controller writes one that can be read, or takes it out', async () => {
    for (const isRemoved of [false, true]) {
      const running = await withNewer(sealNewer(workload('db', 9), { sequence: 6 }));
      const entries = new Map([[webKey, web]]);
      if (!isRemoved) entries.set(dbKey, seal('db', { lastByte: 9, sequence: 7 }));
      deliver(running, entries, listOf(entries, { sequence: 7 }));
      await once('the change', () => keysAt(running.seen.messages, dbIp)[0] === undefined);
      assert.equal(running.follower.unreadable, 0);
      assert.deepEqual(keysAt(running.seen.messages, dbIp), [undefined, undefined], `removed: ${isRemoved}`);
      assert.equal(running.follower.missing, 0);
      running.follower.close();
    }
  });

  test('is still closed after a restart without NATS', async (t) => {
    const directory = await mkdtemp(path.join(tmpdir(), 'culvert-unreadable-'));
    t.after(() => rm(directory, { recursive: true }));
    const file = new RegistryFile({ path: path.join(directory, 'registry') });
    const { follower } = await withNewer(sealNewer(workload('db', 9), { sequence: 6 }));
    await file.save(follower);
    follower.close();
    const stored = await new RegistryFile({ path: file.path }).read();
    const again = newFollower();
    again.follower.restore(stored.kind === 'loaded' ? stored.value : assert.fail(stored.kind));
    assert.deepEqual(keysAt(again.seen.messages, dbIp), [dbKey, dbKey]);
    again.follower.close();
  });
});
