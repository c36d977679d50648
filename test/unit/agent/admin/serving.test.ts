import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isServing, notListening } from '../../../../agent/admin/serving.js';
import { workloadNamed } from '../../../support/routing/names.js';

const captured = { netnsPath: '/run/netns/a', captured: true, hasFailed: false };
const waiting = { netnsPath: '/run/netns/b', captured: false, hasFailed: false };
const failed = { netnsPath: '/run/netns/c', captured: false, hasFailed: true };
const absent = { netnsPath: null, captured: false, hasFailed: false };

void test('an agent serves when all workloads that can be captured are', () => {
  assert.equal(isServing([]), true);
  assert.equal(isServing([captured, absent]), true);
  assert.equal(isServing([captured, waiting]), false);
  assert.equal(isServing([captured, failed]), true);
  assert.equal(isServing([captured, failed, waiting]), false);
  assert.equal(isServing([failed, failed]), false);
});

void test('an agent listens when every worker has opened what the agent before it serves', () => {
  const workloads = [
    { name: workloadNamed('shop/old'), netnsPath: '/run/netns/old', waitsForCharge: false },
    { name: workloadNamed('shop/new'), netnsPath: '/run/netns/new', waitsForCharge: false },
    { name: workloadNamed('shop/absent'), netnsPath: null, waitsForCharge: false },
    { name: workloadNamed('shop/held'), netnsPath: '/run/netns/held', waitsForCharge: true },
  ];
  const late = { isOpen: false, problem: null };
  const check = (old: string | null, other: string | null | undefined): string | null =>
    notListening({
      workloads,
      servedBefore: new Set([1]),
      listeningOf: (name) => {
        if (name === 'shop/old') return { netnsInode: 1, error: old, late };
        return other === undefined || name === 'shop/held' ? null : { netnsInode: 2, error: other, late };
      },
    });
  assert.equal(check(null, null), null);
  assert.equal(check(null, undefined), 'the listeners of shop/new are not open yet');
  assert.equal(check('EMFILE', null), 'the listeners of shop/old could not be opened: EMFILE');
  assert.equal(check(null, 'EADDRINUSE'), null, 'the agent before it does not serve this one either');
});
