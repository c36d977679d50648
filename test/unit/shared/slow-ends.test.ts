import assert from 'node:assert/strict';
import net from 'node:net';
import { describe, it, type TestContext } from 'node:test';
import { SlowEnds } from '../../../shared/slow-ends.js';

function hold(ends: SlowEnds, count: number, source = 'a', group = 'g'): net.Socket[] {
  const sockets = Array.from({ length: count }, () => new net.Socket());
  for (const socket of sockets) ends.hold({ socket, source, group });
  return sockets;
}

function left(sockets: readonly net.Socket[]): number {
  return sockets.filter(({ destroyed }) => !destroyed).length;
}

describe('connections that have to end', () => {
  const clock = (t: TestContext): void => t.mock.timers.enable({ apis: ['setTimeout'] });

  it('end one after the other, the first one first', (t) => {
    clock(t);
    const ends = new SlowEnds();
    const sockets = hold(ends, 300);
    assert.equal(left(sockets), 300);
    for (const wanted of [299, 298, 297]) {
      t.mock.timers.tick(10);
      assert.equal(left(sockets), wanted);
    }
    assert.ok(sockets[0]?.destroyed);
    for (let tick = 0; tick < 300; tick++) t.mock.timers.tick(10);
    assert.equal(left(sockets), 0);
    assert.equal(left(hold(ends, 1)), 1);
    t.mock.timers.tick(10);
    assert.equal(ends.size, 0, 'it begins again');
  });

  it('end within eight seconds, however many there are', (t) => {
    clock(t);
    const sockets = hold(new SlowEnds({ most: 4096 }), 4096);
    for (let tick = 0; tick < 100; tick++) t.mock.timers.tick(10);
    assert.ok(left(sockets) > 3000 && left(sockets) < 3700, `${left(sockets)}: spread over the time`);
    for (let tick = 0; tick < 700; tick++) t.mock.timers.tick(10);
    assert.equal(left(sockets), 0);
  });

  it('end source by source, so that one is not held by a flood of others', (t) => {
    clock(t);
    const ends = new SlowEnds();
    hold(ends, 500, 'stranger');
    const [own] = hold(ends, 1, 'own');
    t.mock.timers.tick(10);
    t.mock.timers.tick(10);
    assert.ok(own?.destroyed);
  });

  it('are limited in number: one of the source that has the most ends at once', (t) => {
    clock(t);
    const ends = new SlowEnds({ most: 100 });
    const few = hold(ends, 3, 'few');
    const many = hold(ends, 100, 'many');
    assert.deepEqual([left(few), left(many), ends.size], [3, 97, 100]);
    assert.ok(many[2]?.destroyed);
    assert.equal(many[3]?.destroyed, false);
  });

  it('end at once as long as that is rare', (t) => {
    clock(t);
    let nowMs = 0;
    t.mock.method(performance, 'now', () => nowMs);
    const ends = new SlowEnds({ atOnce: 3, everyMs: 5 });
    const end = (source: string): net.Socket => {
      const socket = new net.Socket();
      ends.end({ socket, source });
      return socket;
    };
    assert.equal(left(Array.from({ length: 5 }, () => end('a'))), 2);
    nowMs += 5;
    const other = end('b');
    assert.equal(other.destroyed, false, 'others wait, so it waits for its turn');
    t.mock.timers.tick(5);
    t.mock.timers.tick(5);
    assert.ok(other.destroyed);
    t.mock.timers.tick(5);
    assert.equal(ends.size, 0);
    nowMs += 10;
    assert.equal(left(Array.from({ length: 4 }, () => end('a'))), 1, 'as many as time has passed for');
  });

  it('end in the way that was asked for, once, and are forgotten when the client ends them', async (t) => {
    clock(t);
    const ends = new SlowEnds();
    const [mine, theirs] = [new net.Socket(), new net.Socket()];
    let ended = 0;
    ends.hold({ socket: mine, source: 'a', end: () => void ended++ });
    ends.hold({ socket: theirs, source: 'a' });
    theirs.destroy();
    await new Promise((resolve) => theirs.once('close', resolve));
    assert.equal(ends.size, 1);
    t.mock.timers.tick(10);
    t.mock.timers.tick(10);
    assert.deepEqual([ended, ends.size], [1, 0]);
  });

  it('end when their group or all of it does, and then at once', (t) => {
    clock(t);
    const ends = new SlowEnds({ atOnce: 0 });
    const [one, two] = [hold(ends, 10, 'a', 'one'), hold(ends, 10, 'a', 'two')];
    ends.endAll('one');
    assert.deepEqual([left(one), left(two), ends.size], [0, 10, 10]);
    ends[Symbol.dispose]();
    assert.deepEqual([left(two), left(hold(ends, 3)), ends.size], [0, 0, 0]);
  });
});
