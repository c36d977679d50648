import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StoreContent } from '../../../../controller/publish/distribution.js';
import type { StoredResource } from '../../../../controller/inventory/stored-resource.js';
import { emptyState, type Commit, type CommittedState } from '../../../../controller/release/committed-state.js';
import { chooseState } from '../../../../controller/store/recover-state.js';
import type { Resource } from '../../../../controller/resources/kinds/resource.js';
import type { Snapshot } from '../../../../shared/policy/snapshot.js';

function stored(name: string, revision: number): StoredResource {
  const spec = { members: [{ namespace: 'shop' }] };
  const resource = { apiVersion: 'culvert.dev/v1', kind: 'Segment', metadata: { name }, spec } as unknown as Resource;
  return { key: `Segment.-.${name}`, resource, revision, appliedAt: '', appliedBy: '' };
}

function journalAt(revision: number, documents: readonly StoredResource[] = []): CommittedState {
  return { ...emptyState, revision, resources: new Map(documents.map((document) => [document.key, document])) };
}

function content(o: {
  ours?: number;
  foreign?: number | null;
  resources?: readonly StoredResource[];
  inventory?: readonly StoredResource[];
  inventorySequence?: number;
  unreadable?: readonly string[];
  intent?: Commit;
}): StoreContent {
  const published =
    o.ours !== undefined
      ? ({ kind: 'ours', snapshot: { revision: o.ours, createdAt: '', createdBy: '' } as Snapshot } as const)
      : o.foreign === undefined
        ? ({ kind: 'none' } as const)
        : ({ kind: 'foreign', revision: o.foreign } as const);
  return {
    published,
    resources: o.resources ?? [],
    inventory: o.inventory ?? [],
    inventorySequence: o.inventorySequence ?? null,
    unreadable: o.unreadable ?? [],
    intent: o.intent,
  };
}

function intent(revision: number, name: string): Commit {
  return { revision, createdAt: '', createdBy: '', puts: [stored(name, revision)], deletes: [] };
}

test('the journal holds, unless NATS proves that more was applied', () => {
  const cases = [
    ['nothing anywhere', undefined, content({}), 'first start'],
    ['wiped store', journalAt(7), content({}), 'journal'],
    ['store behind', journalAt(7), content({ ours: 6 }), 'journal'],
    ['both the same', journalAt(7), content({ ours: 7 }), 'journal'],
    ['an intent that the journal does not hold', journalAt(7), content({ ours: 7, intent: intent(8, 'x') }), 'journal'],
    ['store ahead', journalAt(7), content({ ours: 9 }), 'adopt'],
    ['journal lost', undefined, content({ ours: 9 }), 'adopt'],
    ['journal and pointer lost', undefined, content({ resources: [stored('a', 4)] }), 'adopt'],
    ['a damaged pointer', journalAt(7), content({ foreign: null }), 'journal'],
    ['a forged older pointer', journalAt(7), content({ foreign: 3 }), 'journal'],
  ] as const;
  for (const [name, journal, found, kind] of cases) assert.equal(chooseState(journal, found).kind, kind, name);
});

test('rules with a foreign signature are never taken over nor overwritten', () => {
  assert.throws(() => chooseState(undefined, content({ foreign: 3 })), { code: 'STORE_FOREIGN' });
  assert.throws(() => chooseState(journalAt(2), content({ foreign: 3 })), { code: 'STORE_FOREIGN' });
});

test('a forged later revision beside our own documents is replaced', () => {
  const ours = [stored('a', 1), stored('b', 2)];
  const forged = content({ foreign: 3, resources: ours });
  assert.equal(chooseState(journalAt(2, ours), forged).kind, 'journal');
  for (const others of [ours.slice(1), [stored('a', 1), stored('b', 3)], [stored('a', 1), stored('c', 2)]]) {
    assert.throws(() => chooseState(journalAt(2, others), forged), { code: 'STORE_FOREIGN' });
  }
});

test('an intent that was not carried out completes what is taken over', () => {
  const found = content({ ours: 4, resources: [stored('a', 4)], intent: intent(5, 'b') });
  const chosen = chooseState(undefined, found);
  assert.ok(chosen.kind === 'adopt');
  assert.equal(chosen.state.revision, 5);
  assert.deepEqual([...chosen.state.resources.keys()], ['Segment.-.a', 'Segment.-.b']);
});

test('an intent that was carried out changes nothing', () => {
  const chosen = chooseState(undefined, content({ ours: 5, resources: [stored('a', 4)], intent: intent(5, 'b') }));
  assert.ok(chosen.kind === 'adopt');
  assert.deepEqual([...chosen.state.resources.keys()], ['Segment.-.a']);
});

test('without journal and pointer the revision goes on after the newest document', () => {
  const chosen = chooseState(undefined, content({ resources: [stored('a', 4), stored('b', 9), stored('c', 2)] }));
  assert.ok(chosen.kind === 'adopt');
  assert.equal(chosen.state.revision, 10);
});

test('what is no document is never left out of what is taken over, and does not matter beside a journal', () => {
  const misplaced = { ...stored('a', 4), key: 'Segment.-.b' };
  const malformed = { ...stored('a', 4), resource: { kind: 'Segment' } as unknown as Resource };
  const wrongIntent = { ...intent(6, 'b'), puts: [malformed] };
  const cases: [what: string, found: StoreContent][] = [
    ['garbage', content({ ours: 5, resources: [stored('a', 4)], unreadable: ['Segment.-.b'] })],
    ['garbage alone', content({ unreadable: ['Segment.-.b'] })],
    ['a document in the place of another', content({ ours: 5, resources: [misplaced] })],
    ['a document that could not be applied', content({ resources: [malformed] })],
    ['such a one in the intent', content({ ours: 5, resources: [stored('c', 4)], intent: wrongIntent })],
  ];
  for (const [what, found] of cases) {
    assert.throws(() => chooseState(undefined, found), { code: 'STORE_INVALID', hint: /journal\.log/ }, what);
    assert.equal(chooseState(journalAt(5), found).kind, 'journal', what);
  }
});
