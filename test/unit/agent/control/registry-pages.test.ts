import assert from 'node:assert/strict';
import { describe, mock, test } from 'node:test';
import type { RegistryFollower } from '../../../../agent/control/followers/registry-follower.js';
import { isPageKey, keyHash } from '../../../../shared/wire/registry-leaf.js';
import { registryRootKey } from '../../../../shared/wire/registry-root.js';
import { registryKey } from '../../../../shared/routing/registry-entry.js';
import {
  bucketOf,
  foreignKey,
  type Listed,
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

const keyOf = (name: string): string => registryKey(workload(name));
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Names w-<from> to w-<to - 1>, of revision 5. */
function named(from: number, to: number): Map<string, Uint8Array> {
  const names = Array.from({ length: to - from }, (_, at) => `w-${from + at}`);
  return new Map(names.map((name) => [keyOf(name), seal(name)]));
}

/** 1,200 entries: in four pages, by the first two bits of the hash. */
const before: Sealed = named(0, 1200);
const listBefore = listOf(before);
const quarterOf = (key: string): string => `list.2.${keyHash(key) >>> 30}`;
const gone = keyOf('w-3');
const pageOfGone = quarterOf(gone);

/** Revision 6: w-3 is gone and w-1200 of another page is new. */
const added = Array.from({ length: 50 }, (_, at) => `w-${1200 + at}`).find(
  (name) => quarterOf(keyOf(name)) !== pageOfGone,
);
const addedName = added ?? assert.fail();
const addedKey = keyOf(addedName);
const pageOfAdded = quarterOf(addedKey);
const afterwards: Sealed = new Map(
  [...before, [addedKey, seal(addedName, { sequence: 6 })] as const].filter(([key]) => key !== gone),
);
const listAfter = listOf(afterwards, { sequence: 6 });

function page(list: Listed, key: string): Uint8Array {
  return list.pages.get(key) ?? assert.fail(key);
}

function namesOf(follower: RegistryFollower): string[] {
  return [...follower.entries.keys()].sort();
}

/** Runs until what is due within this time has happened. */
async function pass(milliseconds: number): Promise<void> {
  await turn();
  mock.timers.tick(milliseconds);
  await turn();
}

function testWithClock(name: string, run: () => Promise<void>): void {
  test(name, async () => {
    mock.timers.enable({ apis: ['setTimeout'] });
    try {
      await run();
    } finally {
      mock.timers.reset();
    }
  });
}

describe('a change of one workload', () => {
  for (const order of ['entry, pages, root', 'root, pages, entry', 'pages, entry, root', 'root, entry, pages']) {
    testWithClock(`is taken in the order ${order}, and only what changed is told and proved`, async () => {
      const { follower, seen } = restored(before, listBefore);
      const steps = {
        entry: () => put(follower, addedKey, afterwards.get(addedKey) ?? assert.fail()),
        pages: () => putAll(follower, listAfter.pages),
        root: () => put(follower, registryRootKey, listAfter.root),
      };
      for (const step of order.split(', ')) {
        steps[step as keyof typeof steps]();
        await turn();
      }
      await pass(10_000);
      assert.deepEqual(namesOf(follower), [...afterwards.keys()].sort());
      const changes = seen.messages.slice(1);
      assert.deepEqual(
        changes.flatMap(({ upserts }) => upserts.map(({ name }) => name)),
        [addedName],
      );
      assert.deepEqual(
        changes.flatMap(({ removals }) => removals),
        [gone],
      );
      assert.deepEqual([seen.signatures, seen.alarms, follower.missing], [1, 0, 0]);
      follower.close();
    });
  }

  testWithClock('that only adds needs nothing of the other pages', async () => {
    const entries = new Map(before).set(addedKey, seal(addedName, { sequence: 6 }));
    const { root, pages } = listOf(entries, { sequence: 6 });
    const { follower, seen } = restored(before, listBefore);
    put(follower, addedKey, entries.get(addedKey) ?? assert.fail());
    put(follower, pageOfAdded, page({ root, pages }, pageOfAdded));
    put(follower, registryRootKey, root);
    await pass(10_000);
    assert.deepEqual([follower.entries.size, follower.missing, seen.alarms], [1201, 0, 0]);
    follower.close();
  });
});

describe('no one but the controller', () => {
  testWithClock('makes a root: a forged one, with pages that leave out a workload, takes nothing away', async () => {
    const { follower, seen } = restored(before, listBefore);
    const forged = listOf(afterwards, { sequence: 9, key: foreignKey });
    putAll(follower, [...forged.pages, [registryRootKey, forged.root]]);
    await pass(1000);
    assert.deepEqual([follower.entries.size, follower.missing, seen.alarms], [1200, 0, 1]);
    await pass(10_000);
    assert.equal(seen.alarms, 2, 'pages that no root names are reported');
    assert.equal(follower.entries.size, 1200);
    follower.close();
  });

  testWithClock('goes back: an older root, and pages of it, change nothing', async () => {
    const { follower, seen } = restored(afterwards, listAfter);
    const { stale } = seen;
    put(follower, pageOfAdded, page(listBefore, pageOfAdded));
    put(follower, pageOfGone, page(listBefore, pageOfGone));
    put(follower, registryRootKey, listBefore.root);
    put(follower, gone, before.get(gone) ?? assert.fail());
    await pass(1000);
    assert.deepEqual(namesOf(follower), [...afterwards.keys()].sort(), 'nor does a removed workload come back');
    assert.equal(seen.alarms, 1);
    assert.ok(seen.stale <= stale + 1);
    follower.close();
  });

  testWithClock('exchanges pages, which are proved where they are only', async () => {
    const { follower, seen } = newFollower();
    const other = pageOfAdded;
    const swapped = new Map(listBefore.pages)
      .set(other, page(listBefore, pageOfGone))
      .set(pageOfGone, page(listBefore, other));
    putAll(follower, bucketOf(before, { root: listBefore.root, pages: swapped }));
    await pass(10_000);
    assert.deepEqual([follower.isComplete, follower.missing, seen.alarms], [false, 2, 1]);
    assert.deepEqual(seen.messages, []);
    putAll(follower, listBefore.pages);
    await pass(1000);
    assert.deepEqual([follower.isComplete, follower.missing, follower.entries.size], [true, 0, 1200]);
    follower.close();
  });

  testWithClock('deletes: neither a page, nor the root, nor an entry', async () => {
    const { follower, seen } = restored(before, listBefore);
    for (const key of [pageOfGone, registryRootKey, gone]) follower.onEntry({ operation: 'delete', key });
    await pass(10_000);
    assert.deepEqual([follower.entries.size, follower.missing, seen.alarms], [1200, 0, 0]);
    putAll(follower, bucketOf(afterwards, listAfter));
    await pass(1000);
    assert.deepEqual(namesOf(follower), [...afterwards.keys()].sort());
    follower.close();
  });

  testWithClock('fills the memory with pages: a large one is refused', async () => {
    const { follower, seen } = restored(before, listBefore);
    put(follower, 'list.9.0', Buffer.alloc(3 * 1024 * 1024));
    assert.equal(seen.alarms, 1);
    for (let at = 0; at < 100; at++) put(follower, `list.9.${at}`, Buffer.alloc(1024 * 1024, at));
    putAll(follower, bucketOf(afterwards, listAfter));
    await pass(1000);
    assert.deepEqual(namesOf(follower), [...afterwards.keys()].sort());
    follower.close();
  });
});

describe('what is withheld', () => {
  testWithClock('of pages takes nothing away and is reported, and what else changed is in force', async () => {
    const { follower, seen } = restored(before, listBefore);
    put(follower, registryRootKey, listAfter.root);
    put(follower, pageOfAdded, page(listAfter, pageOfAdded));
    put(follower, addedKey, afterwards.get(addedKey) ?? assert.fail());
    await pass(1000);
    assert.deepEqual([follower.entries.has(gone), follower.entries.has(addedKey)], [true, true]);
    assert.deepEqual([follower.missing, follower.isComplete, seen.alarms], [1, true, 0]);
    await pass(5000);
    assert.equal(seen.alarms, 1);
    put(follower, pageOfGone, page(listBefore, pageOfGone));
    await pass(1000);
    assert.equal(follower.missing, 1, 'a page of the past is not it');
    put(follower, pageOfGone, page(listAfter, pageOfGone));
    await pass(10_000);
    assert.deepEqual([follower.entries.has(gone), follower.missing, seen.alarms], [false, 0, 1]);
    follower.close();
  });

  testWithClock('of entries leaves a registry that was never whole incomplete', async () => {
    const { follower, seen } = newFollower();
    const without = new Map(before);
    without.delete(gone);
    putAll(follower, bucketOf(without, listBefore));
    await pass(10_000);
    assert.deepEqual([follower.isComplete, follower.missing, seen.alarms], [false, 1, 1]);
    put(follower, gone, before.get(gone) ?? assert.fail());
    await pass(1000);
    assert.deepEqual([follower.isComplete, follower.missing, seen.messages.length], [true, 0, 1]);
    follower.close();
  });

  testWithClock(
    'goes when a page that never changed is named again by a root that is newer than the entry',
    async () => {
      const { follower, seen } = restored(before, listBefore);
      put(follower, addedKey, afterwards.get(addedKey) ?? assert.fail());
      await pass(1000);
      assert.equal(follower.entries.size, 1201);
      put(follower, registryRootKey, listOf(before, { sequence: 7 }).root);
      await pass(1000);
      assert.deepEqual([follower.entries.size, seen.messages.at(-1)?.removals], [1200, [addedKey]]);
      follower.close();
    },
  );
});

/** Numbers that look random and are the same in each run. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % below;
  };
}

test('a registry that grows and shrinks by thousands follows whatever order its parts come in', async () => {
  const { follower, seen } = newFollower();
  const next = numbers(42);
  let entries = new Map<string, Uint8Array>();
  let bucket = new Map<string, Uint8Array>();
  const waiting = new Map<string, Uint8Array>();
  const disk = new Map<string, Uint8Array>();
  for (const [step, size] of [3, 700, 400, 2600, 2590, 1000, 1001, 90, 513, 0, 1500].entries()) {
    const sequence = step + 1;
    const keep = [...entries].filter(() => next(10) > 0).slice(0, size);
    entries = new Map(keep);
    for (let at = entries.size; at < size; at++) {
      const name = `w-${sequence}-${at}`;
      entries.set(keyOf(name), seal(name, { sequence }));
    }
    const published = bucketOf(entries, listOf(entries, { sequence }));
    const isNew = ([key, value]: readonly [string, Uint8Array]): boolean => bucket.get(key) !== value;
    for (const [key, value] of [...published].filter(isNew)) waiting.set(key, value);
    for (const key of waiting.keys()) if (!published.has(key) && !isPageKey(key)) waiting.delete(key);
    bucket = published;
    // Some are overtaken by the next, as when a link was down.
    if (step % 4 === 2) continue;
    const parts = [...waiting].map((part) => [next(2 ** 20), part] as const).sort(([a], [b]) => a - b);
    waiting.clear();
    for (const [at, [, [key, value]]] of parts.entries()) {
      put(follower, key, value);
      if (at % 100 === 99) await turn();
    }
    await once(`step ${step}`, () => follower.missing === 0 && follower.entries.size === entries.size);
    assert.deepEqual(namesOf(follower), [...entries.keys()].sort());
    const sequences = [...follower.entries.values()].map((held) => held.sequence);
    assert.equal(follower.sequence, sequences.length === 0 ? null : Math.max(...sequences));
    for (const [key, value] of follower.takeUnsaved()) {
      if (value === null) disk.delete(key);
      else disk.set(key, value);
    }
    assert.deepEqual(disk, new Map(follower.stored.entries.map(({ key, sealed }) => [key, sealed])));
  }
  assert.deepEqual([follower.isComplete, seen.alarms], [true, 0]);
  const told = new Set<string>();
  for (const { isFull, upserts, removals } of seen.messages) {
    if (isFull) told.clear();
    for (const key of removals) told.delete(key);
    for (const entry of upserts) told.add(registryKey(entry));
  }
  assert.deepEqual([...told].sort(), namesOf(follower));
  follower.close();
});
