import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { JudgingTurns, type Place } from '../../../../controller/kubernetes/judging-turns.js';
import { newDeferred, type Deferred } from '../../../../shared/deferred.js';

const never = new AbortController().signal;

/** Judgements that end when the test says so, on a clock that the test moves. */
function judged(t: TestContext) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let nowMs = 0;
  const turns = new JudgingTurns({ elapsedMs: () => nowMs });
  const begun: string[] = [];
  const working = new Map<string, Deferred>();
  const ask = (account: string, name: string, namespace = '') => {
    const place: Place = turns.enter({ account, namespace });
    const answer = place.turn(async () => {
      begun.push(name);
      const work = newDeferred();
      working.set(name, work);
      await work.promise;
    }, place.signal);
    // One whose place is taken is looked at by the test, or by none.
    const settled = answer.then(
      () => 'judged',
      () => 'given up',
    );
    void settled.then(() => place[Symbol.dispose]());
    return { settled, signal: place.signal };
  };
  const pass = async (ms: number): Promise<void> => {
    await settle();
    nowMs += ms;
    t.mock.timers.tick(ms);
    await settle();
  };
  const end = async (name: string): Promise<void> => {
    working.get(name)?.resolve();
    working.delete(name);
    await settle();
  };
  return { turns, begun, ask, pass, end };
}

async function settle(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await setImmediate();
}

test('one account that floods does not keep another one waiting for more than a judgement', async (t) => {
  const { begun, ask, pass, end } = judged(t);
  for (let index = 0; index < 20; index++) ask('flood', `flood-${index}`);
  await settle();
  assert.deepEqual(begun, ['flood-0']);
  ask('calm', 'calm');
  await pass(100);
  await end('flood-0');
  assert.deepEqual(begun, ['flood-0', 'calm']);
  await pass(100);
  await end('calm');
  assert.deepEqual(begun, ['flood-0', 'calm', 'flood-1'], 'and it is not forgotten itself');
});

test('an account that used much of the time waits for those that used less, until that was some time ago', async (t) => {
  const { begun, ask, pass, end } = judged(t);
  ask('heavy', 'heavy-0');
  await settle();
  await pass(400);
  ask('heavy', 'heavy-1');
  for (let index = 0; index < 3; index++) ask('light', `light-${index}`);
  for (const name of ['heavy-0', 'light-0', 'light-1', 'light-2']) {
    await pass(10);
    await end(name);
  }
  assert.deepEqual(begun, ['heavy-0', 'light-0', 'light-1', 'light-2', 'heavy-1']);
});

test('a namespace that floods does not hold up another one of the same account', async (t) => {
  const { begun, ask, pass, end } = judged(t);
  for (let index = 0; index < 10; index++) ask('robot', `shop-${index}`, 'shop');
  ask('robot', 'bank', 'bank');
  await settle();
  await pass(50);
  await end('shop-0');
  assert.deepEqual(begun, ['shop-0', 'bank']);
});

test('a judgement that takes long keeps only its own account waiting', async (t) => {
  const { begun, ask, pass, end } = judged(t);
  ask('slow', 'slow-0');
  ask('slow', 'slow-1');
  ask('calm', 'calm-0');
  await pass(499);
  assert.deepEqual(begun, ['slow-0']);
  await pass(1);
  assert.deepEqual(begun, ['slow-0', 'calm-0']);
  await end('calm-0');
  assert.deepEqual(begun, ['slow-0', 'calm-0'], 'an account has one at a time');
  await pass(3000);
  await end('slow-0');
  assert.deepEqual(begun, ['slow-0', 'calm-0', 'slow-1']);
});

test('accounts whose judgements take long leave room for the others', async (t) => {
  const { begun, ask, pass, end } = judged(t);
  const accounts = ['a', 'b', 'c'];
  for (const account of accounts) {
    ask(account, `${account}-0`);
    await pass(2000);
  }
  for (const account of accounts) await end(`${account}-0`);
  for (const account of accounts) ask(account, `${account}-1`);
  await pass(500);
  await pass(500);
  assert.deepEqual(begun.slice(3).toSorted(), begun.slice(3), 'all three are heavy, and only two begin');
  assert.equal(begun.length, 5);
  ask('calm', 'calm');
  await settle();
  assert.equal(begun.at(-1), 'calm');
});

test('where all places are taken, the one who has most gives its newest, and no other loses any', async (t) => {
  const { turns, ask } = judged(t);
  const flood = Array.from({ length: 31 }, (_, index) => ask('flood', `flood-${index}`));
  const other = ask('other', 'other');
  assert.throws(() => turns.enter({ account: 'flood', namespace: '' }), { code: 'ADMISSION_BUSY' });
  const calm = ask('calm', 'calm');
  assert.equal(await flood[30]?.settled, 'given up');
  assert.deepEqual(
    [...flood.slice(0, 30), other, calm].filter(({ signal }) => signal.aborted),
    [],
  );
});

test('accounts that ask for all they can get have as many places as each other', async (t) => {
  const { ask } = judged(t);
  const places = ['a', 'b', 'c', 'd'].flatMap((account) =>
    Array.from({ length: 32 }, (_, index) => {
      try {
        return [{ account, ...ask(account, `${account}-${index}`) }];
      } catch {
        return [];
      }
    }).flat(),
  );
  const kept = places.filter(({ signal }) => !signal.aborted);
  for (const each of ['a', 'b', 'c', 'd']) {
    assert.equal(kept.filter(({ account }) => account === each).length, 8, each);
  }
});

test('a question whose client is gone before its turn is not begun', async (t) => {
  const { turns, begun, ask, end } = judged(t);
  ask('a', 'first');
  using place = turns.enter({ account: 'b', namespace: '' });
  const gone = new AbortController();
  const answer = place.turn(async () => void begun.push('gone'), gone.signal);
  gone.abort(new Error('gone'));
  await assert.rejects(answer, /gone/);
  await end('first');
  await assert.rejects(
    place.turn(async () => void begun.push('late'), gone.signal),
    /gone/,
  );
  assert.deepEqual(begun, ['first']);
});

test('what fails gives its turn on', async () => {
  const turns = new JudgingTurns();
  using place = turns.enter({ account: 'a', namespace: '' });
  await assert.rejects(
    place.turn(() => Promise.reject(new Error('broken')), never),
    /broken/,
  );
  assert.equal(await place.turn(async () => 'next', never), 'next');
});
