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
});

async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}
