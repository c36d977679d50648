import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { RegistryFollower } from '../../../../agent/control/followers/registry-follower.js';
import { keyHash } from '../../../../shared/wire/registry-leaf.js';
import { registryRootKey } from '../../../../shared/wire/registry-root.js';
import { registryKey } from '../../../../shared/routing/registry-entry.js';
import {
  bucketOf,
  foreignKey,
  listOf,
  newFollower,
  once,
  put,
  putAll,
  restored,
  seal,
  type Sealed,
  workload,
} from '../../../support/agent/registry-fixture.js';

const count = 1500;
const keys = Array.from({ length: count }, (_, at) => registryKey(workload(`w-${at}`)));
const key7 = keys[7] ?? '';
const sealed: Sealed = new Map(keys.map((key, at) => [key, seal(`w-${at}`)]));

const with7 = (bytes: Uint8Array): Map<string, Uint8Array> => new Map(sealed).set(key7, bytes);

describe('a registry from disk', () => {
  test('is proved by its signed root, without a look at the signature of each entry', () => {
    const { follower, seen } = restored(sealed, listOf(sealed));
    assert.deepEqual([follower.entries.size, follower.missing], [count, 0]);
    assert.deepEqual([seen.signatures, seen.alarms], [0, 0]);
    assert.equal(seen.messages[0]?.upserts.length, count);
  });

  test('loses an entry of another writer, and is checked one by one around it', () => {
    for (const forged of [seal('w-7', { key: foreignKey, lastByte: 66 }), seal('w-8'), Buffer.from('{}')]) {
      const { follower, seen } = restored(with7(forged), listOf(sealed));
      assert.equal(follower.entries.has(key7), false);
      assert.deepEqual([follower.entries.size, follower.missing, seen.alarms], [count - 1, 1, 1]);
      assert.ok(seen.signatures > 1 && seen.signatures < count, `${seen.signatures} signatures`);
    }
  });

  test('is believed nothing of when root and entries are of another key', () => {
    const forged = new Map(keys.map((key, at) => [key, seal(`w-${at}`, { key: foreignKey })]));
    const { follower, seen } = restored(forged, listOf(forged, { key: foreignKey }));
    assert.equal(follower.entries.size, 0);
    assert.deepEqual([seen.signatures, seen.alarms], [count, count + 1]);
    // As of a mesh that this host has left. An empty registry would take every workload out of this one.
    assert.deepEqual([follower.isComplete, seen.messages], [false, []]);
    // The NATS of the mesh that it joined need not have those keys, and no alarm about them would ever end.
    assert.equal(follower.alarm, null);
    const unsaved = follower.takeUnsaved();
    const { pages } = listOf(forged, { key: foreignKey });
    assert.deepEqual(new Set(unsaved.keys()), new Set([...keys, ...pages.keys()]));
    assert.ok(
      [...unsaved.values()].every((value) => value === null),
      'the file loses them',
    );
    // What the new mesh has under the same keys is kept.
    putAll(follower, bucketOf(sealed, listOf(sealed)));
    assert.equal(follower.isComplete, false, 'in the next turn');
    const kept = follower.takeUnsaved();
    for (const key of listOf(sealed).pages.keys()) assert.ok(kept.get(key) !== null, key);
    follower.close();
  });

  test('may be newer than its pages in one entry, which is then checked by its signature', () => {
    const { follower, seen } = restored(with7(seal('w-7', { sequence: 6 })), listOf(sealed));
    assert.equal(follower.entries.get(key7)?.sequence, 6);
    assert.deepEqual([follower.entries.size, seen.alarms], [count, 0]);
  });

  test('costs nothing more when NATS brings the same again', () => {
    const { follower, seen } = restored(sealed, listOf(sealed));
    for (const [key, value] of bucketOf(sealed, listOf(sealed))) put(follower, key, new Uint8Array(value));
    assert.deepEqual([seen.signatures, seen.messages.length, seen.stale], [0, 1, 0]);
    follower.close();
  });
});

describe('a registry that comes from NATS after its root and pages', () => {
  const deliver = (follower: RegistryFollower, all: Iterable<readonly [string, Uint8Array]>): void => {
    putAll(follower, bucketOf(new Map(), listOf(sealed)));
    putAll(follower, all);
  };

  test('is proved in groups, without a look at the signature of each entry', async () => {
    const { follower, seen } = newFollower();
    deliver(follower, sealed);
    await once('the whole', () => follower.isComplete);
    assert.deepEqual([follower.entries.size, seen.signatures, seen.alarms], [count, 0, 0]);
    assert.deepEqual([seen.messages.length, seen.messages[0]?.upserts.length], [1, count]);
    follower.close();
  });

  test('is checked one by one where another writer wrote or something does not come', async () => {
    const { follower, seen } = newFollower();
    const forged = seal('w-7', { key: foreignKey, lastByte: 66 });
    const isOf7 = (key: string): boolean => keyHash(key) >>> 30 === keyHash(key7) >>> 30;
    const other = keys.find((key) => !isOf7(key));
    deliver(
      follower,
      [...with7(forged)].filter(([key]) => key !== other),
    );
    await once('all that can be believed', () => follower.entries.size === count - 2);
    assert.deepEqual([follower.isComplete, follower.missing, seen.alarms], [false, 2, 1]);
    for (const key of [key7, other ?? '']) {
      put(follower, key, sealed.get(key) ?? assert.fail(key));
    }
    await once('the whole', () => follower.isComplete);
    assert.equal(follower.entries.size, count);
    assert.ok(seen.signatures < count, `${seen.signatures} signatures`);
    follower.close();
  });

  test('loses neither of two that claim the same key', async () => {
    const { follower, seen } = newFollower();
    const forged = seal('w-7', { key: foreignKey });
    deliver(follower, [[key7, forged], ...sealed]);
    await once('the whole', () => follower.isComplete);
    assert.deepEqual([follower.entries.size, seen.alarms], [count, 1]);
    follower.close();
  });
});

describe('what is refused', () => {
  test('is an alarm, which names a restored backup, until something else is there', () => {
    const newer = new Map(keys.map((key, at) => [key, seal(`w-${at}`, { sequence: 30 })]));
    const { follower } = restored(newer, listOf(newer, { sequence: 30 }));
    assert.equal(follower.alarm, null);
    const older = listOf(sealed, { sequence: 14 });
    put(follower, registryRootKey, older.root);
    assert.match(follower.alarm ?? '', /its sequence 14 is older than 30, .*an older backup of the controller/);
    put(follower, key7, seal('w-7', { sequence: 14 }));
    assert.match(follower.alarm ?? '', /and 1 more$/);
    put(follower, key7, newer.get(key7) ?? assert.fail());
    put(follower, registryRootKey, listOf(newer, { sequence: 31 }).root);
    assert.equal(follower.alarm, null);
    follower.close();
  });
});
