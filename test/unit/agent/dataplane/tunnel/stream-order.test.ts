import assert from 'node:assert/strict';
import { describe, mock, test } from 'node:test';
import type { ClientTunnel } from '../../../../../agent/dataplane/tunnel/client-tunnel.js';
import { StreamOrder } from '../../../../../agent/dataplane/tunnel/stream-order.js';

function tunnel(hasRoom: boolean): ClientTunnel {
  return { hasRoom } as unknown as ClientTunnel;
}

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
    const giveUp = <T>(pending: Promise<T>): Promise<T> => pending;
    const waiting = order.waitFor(wait, giveUp).then(() => ends.push('first'));
    assert.equal(order.line, wait);
    const next = order.waitFor(wait, giveUp).then(() => ends.push('second'));
    order.answered();
    assert.ok(!order.isIdle);
    assert.equal(order.choose(free), null);
    order.answered();
    await Promise.all([waiting, next]);
    assert.deepEqual(ends, ['first', 'second']);
    assert.deepEqual([order.line, order.isIdle, order.choose(free)], [null, true, free]);
  });

  test('waits a quarter of a second at most', async (t) => {
    mock.timers.enable({ apis: ['setTimeout'] });
    t.after(() => mock.timers.reset());
    const order = new StreamOrder();
    order.sent(tunnel(false));
    const wait = order.allAnswered();
    mock.timers.tick(250);
    assert.equal(await wait, null);
    assert.equal(order.choose(free), free);
  });
});
