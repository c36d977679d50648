import assert from 'node:assert/strict';
import net from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { SlowEnds } from '../../../../shared/http/slow-ends.js';

function add(ends: SlowEnds, count: number): net.Socket[] {
  const sockets = Array.from({ length: count }, () => new net.Socket());
  for (const socket of sockets) ends.add(socket);
  return sockets;
}

function left(sockets: readonly net.Socket[]): number {
  return sockets.filter(({ destroyed }) => !destroyed).length;
}

describe('connections that lost their places', () => {
  const clock = (t: TestContext): void => t.mock.timers.enable({ apis: ['setTimeout'] });

  it('end one after the other, the first one first', (t) => {
    clock(t);
    const ends = new SlowEnds();
    const sockets = add(ends, 300);
    assert.equal(left(sockets), 300);
    for (const wanted of [299, 298, 297]) {
      t.mock.timers.tick(10);
      assert.equal(left(sockets), wanted);
    }
    assert.ok(sockets[0]?.destroyed);
    for (let tick = 0; tick < 300; tick++) t.mock.timers.tick(10);
    assert.equal(left(sockets), 0);
    assert.equal(left(add(ends, 1)), 1);
    t.mock.timers.tick(10);
    assert.equal(ends.size, 0, 'it begins again');
  });

  it('are not more than 4,096', (t) => {
    clock(t);
    const sockets = add(new SlowEnds(), 4100);
    assert.equal(left(sockets), 4096);
    assert.ok(sockets[3]?.destroyed);
    assert.equal(sockets[4]?.destroyed, false);
  });

  it('end when all of the server does', (t) => {
    clock(t);
    const ends = new SlowEnds();
    const sockets = add(ends, 10);
    ends.endAll();
    assert.equal(left(sockets), 0);
  });
});
