import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { KeyedSemaphore } from '../../../../../agent/dataplane/tunnel/keyed-semaphore.js';

describe('a gate', () => {
  it('lets as many in as it may, and the next ones in their order', async () => {
    const gate = new KeyedSemaphore({ limit: 2 });
    const entered: number[] = [];
    const leaves: (() => void)[] = [];
    for (let index = 0; index < 5; index++) {
      void gate.enter('a').then((leave) => {
        entered.push(index);
        leaves.push(leave);
      });
    }
    await turn();
    assert.deepEqual(entered, [0, 1]);
    leaves[1]?.();
    await turn();
    assert.deepEqual(entered, [0, 1, 2]);
    leaves[0]?.();
    leaves[2]?.();
    await turn();
    assert.deepEqual(entered, [0, 1, 2, 3, 4]);
  });

  it('counts each key by itself, and forgets an unused one', async () => {
    const gate = new KeyedSemaphore({ limit: 1 });
    const leaveA = await gate.enter('a');
    const leaveB = await gate.enter('b');
    leaveA();
    leaveB();
    const again = await gate.enter('a');
    let isNextIn = false;
    void gate.enter('a').then(() => (isNextIn = true));
    await turn();
    assert.equal(isNextIn, false);
    again();
    await turn();
    assert.equal(isNextIn, true);
  });

  it('lets one in before all that wait if it is to be first', async () => {
    const gate = new KeyedSemaphore({ limit: 1 });
    const entered: string[] = [];
    const leave = await gate.enter('a');
    const wish = { timeoutMs: 10_000, signal: new AbortController().signal };
    const enter = async (name: string, isFirst: boolean): Promise<void> => {
      const leaveAgain = await gate.enterWithin('a', { ...wish, isFirst });
      entered.push(name);
      leaveAgain?.();
    };
    const all = [enter('second', false), enter('third', false), enter('first', true)];
    leave();
    await Promise.all(all);
    assert.deepEqual(entered, ['first', 'second', 'third']);
  });

  it('forgets who gave up or waited too long: the place goes to the next', async () => {
    const gate = new KeyedSemaphore({ limit: 1 });
    const leave = await gate.enter('a');
    const ending = new AbortController();
    const patient = { timeoutMs: 10_000, signal: new AbortController().signal };
    const gaveUp = gate.enterWithin('a', { timeoutMs: 10_000, signal: ending.signal });
    const tooLate = gate.enterWithin('a', { timeoutMs: 1, signal: patient.signal });
    const next = gate.enterWithin('a', patient);
    ending.abort();
    assert.equal(await gaveUp, null);
    assert.equal(await tooLate, null);
    assert.equal(await gate.enterWithin('b', { timeoutMs: 10_000, signal: ending.signal }), null);
    leave();
    assert.notEqual(await next, null);
  });
});

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
