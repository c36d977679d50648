import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, mock, test } from 'node:test';
import type { ClientTunnel } from '../../../../../agent/dataplane/tunnel/client-tunnel.js';
import { StreamOrder } from '../../../../../agent/dataplane/tunnel/stream-order.js';

function tunnel(hasRoom: boolean, answersPing: () => Promise<void> = async () => {}): ClientTunnel {
  return { hasRoom, answersPing } as unknown as ClientTunnel;
}

/** After the answer to the question, however long that took. */
const mostMs = 2000;

describe('the order of streams to one port', () => {
  const free = tunnel(true);

  test('takes what the pool would take when no CONNECT is unanswered', () => {
    const order = new StreamOrder();
    assert.equal(order.choose(free), free);
    assert.equal(order.choose(undefined), undefined);
    assert.ok(order.isIdle);
  });

  test('follows an unanswered CONNECT through its tunnel while that has room, and no longer', () => {
    const order = new StreamOrder();
    const used = tunnel(true);
    order.sent(used);
    assert.equal(order.choose(free), used);
    assert.equal(order.choose(undefined), used);
    order.answered();
    assert.equal(order.choose(free), free);
  });

  test('waits for all answers where the tunnel has no room', async () => {
    const order = new StreamOrder();
    const full = tunnel(false);
    order.sent(full);
    order.sent(full);
    assert.equal(order.choose(free), null);
    const wait = order.allAnswered();
    const ends: string[] = [];
    const [first, second] = [order.line.stand(), order.line.stand()];
    const waiting = wait.then(() => {
      ends.push('first');
      first.leave();
    });
    assert.ok(!order.line.isEmpty);
    const next = second.untilFirst().then(() => {
      ends.push('second');
      second.leave();
    });
    order.answered();
    assert.ok(!order.isIdle);
    assert.equal(order.choose(free), null);
    order.answered();
    await Promise.all([waiting, next]);
    assert.deepEqual(ends, ['first', 'second']);
    assert.deepEqual([order.line.isEmpty, order.isIdle, order.choose(free)], [true, true, free]);
  });

  describe('while no answer comes', () => {
    beforeEach(() => mock.timers.enable({ apis: ['setTimeout', 'setImmediate'] }));
    afterEach(() => mock.timers.reset());

    async function hasEnded(wait: Promise<null | object>): Promise<boolean> {
      return await Promise.race([wait.then(() => true), Promise.resolve().then(() => Promise.resolve(false))]);
    }

    /** Ends what is due, and what that leaves for the end of the turn. */
    function pass(ms: number): void {
      mock.timers.tick(ms);
      mock.timers.tick(0);
    }

    test('waits for a quarter of a second, asks the other agent, and waits as long again', async () => {
      let asked = 0;
      const order = new StreamOrder();
      order.sent(tunnel(false, async () => void (asked += 1)));
      const wait = order.allAnswered();
      pass(249);
      assert.equal(asked, 0);
      pass(1);
      assert.equal(asked, 1);
      assert.equal(await hasEnded(wait), false);
      pass(249);
      assert.equal(await hasEnded(wait), false);
      pass(mostMs);
      assert.equal(await wait, null);
      assert.equal(order.choose(free), free);
    });

    test('waits for an agent that is too busy to answer the question', async () => {
      let answer = (): void => {};
      const order = new StreamOrder();
      order.sent(tunnel(false, () => new Promise((resolve) => (answer = resolve))));
      const wait = order.allAnswered();
      pass(250);
      pass(5000);
      assert.equal(await hasEnded(wait), false);
      answer();
      await hasEnded(wait);
      assert.equal(order.choose(free), null, 'it has come to the question only');
      pass(mostMs);
      assert.equal(await wait, null);
    });

    test('counts from the last answer', async () => {
      const order = new StreamOrder();
      const full = tunnel(false);
      for (let i = 0; i < 5; i++) order.sent(full);
      const wait = order.allAnswered();
      for (let i = 0; i < 3; i++) {
        pass(249);
        order.answered();
      }
      pass(250);
      await hasEnded(wait);
      order.answered();
      pass(250);
      assert.equal(await hasEnded(wait), false, 'an answer came after the question');
      pass(mostMs);
      assert.equal(await hasEnded(wait), true);
    });
  });

  test('takes an answer that arrived while this thread was busy for one in time', async () => {
    const order = new StreamOrder();
    order.sent(tunnel(false));
    order.sent(tunnel(false));
    const wait = order.allAnswered();
    // The loop runs late timers before it reads what has arrived.
    const arrived = new Promise<void>((resolve) => {
      setTimeout(() => {
        order.answered();
        resolve();
      }, 250);
    });
    for (const until = performance.now() + 300; performance.now() < until;);
    await arrived;
    await new Promise((resolve) => setImmediate(resolve));
    assert.equal(order.choose(free), null);
    order.answered();
    await wait;
  });
});
