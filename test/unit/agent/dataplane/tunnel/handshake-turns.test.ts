import assert from 'node:assert/strict';
import type net from 'node:net';
import { afterEach, beforeEach, mock, test } from 'node:test';
import {
  defaultHandshakeLimits,
  type HandshakeLimits,
  HandshakeTurns,
} from '../../../../../agent/dataplane/tunnel/handshake-turns.js';
import { workloadNamed } from '../../../../support/routing/names.js';

const [web, db] = [workloadNamed('shop/web'), workloadNamed('shop/db')];

let begun: string[];
let cut: string[];
let nowMs: number;
let gone: Set<string>;
beforeEach(() => {
  [begun, cut, gone, nowMs] = [[], [], new Set(), 0];
  mock.timers.enable({ apis: ['setTimeout'] });
  mock.method(performance, 'now', () => nowMs);
});
afterEach(() => {
  mock.reset();
  mock.timers.reset();
});

function turnsWith(limits: Partial<HandshakeLimits> = {}) {
  const turns = new HandshakeTurns({ ...defaultHandshakeLimits, ...limits });
  const enter = (name: string, { source = name, listener = web, isSilent = false } = {}): net.Socket => {
    const socket = {} as net.Socket;
    const look = (): 'bytes' | 'nothing' | 'gone' => (gone.has(name) ? 'gone' : isSilent ? 'nothing' : 'bytes');
    turns.enter({ socket, source, listener, look, begin: () => begun.push(name), cut: () => cut.push(name) });
    return socket;
  };
  return { turns, enter };
}

function passMs(ms: number): void {
  for (let step = 0; step < ms; step++) {
    nowMs++;
    mock.timers.tick(1);
  }
}

test('handshakes begin one by one at a pace, and those that say nothing do not begin', () => {
  const { enter } = turnsWith({ betweenMs: 10 });
  enter('silent', { isSilent: true });
  enter('a');
  enter('b');
  passMs(1);
  assert.deepEqual(begun, ['a']);
  passMs(8);
  assert.deepEqual(begun, ['a']);
  passMs(2);
  assert.deepEqual(begun, ['a', 'b']);
});

test('a peer waits behind its own handshakes, and not behind those of a flood or of another workload', () => {
  const { enter } = turnsWith({ betweenMs: 1 });
  for (let index = 0; index < 6; index++) enter(`flood${index}`, { source: 'flood' });
  for (let index = 0; index < 3; index++) enter(`other${index}`, { source: `other${index}`, listener: db });
  enter('honest');
  passMs(10);
  assert.deepEqual(begun.slice(0, 4), ['flood0', 'other0', 'honest', 'other1']);
  assert.deepEqual([...begun].toSorted().length, 10);
});

test('one source has some places of those that run, and a rate', () => {
  const { turns, enter } = turnsWith({ betweenMs: 1, runningPerSource: 2, perSecond: 4, atOnce: 4 });
  const sockets = Array.from({ length: 8 }, (_unused, index) => enter(`a${index}`, { source: 'a' }));
  passMs(40);
  assert.deepEqual(begun, ['a0', 'a1']);
  enter('b');
  passMs(40);
  assert.deepEqual(begun, ['a0', 'a1', 'b'], 'others are not held up');
  for (const socket of sockets.slice(0, 2)) assert.ok(turns.leave(socket));
  passMs(40);
  for (const socket of sockets.slice(2, 4)) turns.leave(socket);
  passMs(80);
  assert.deepEqual(begun.slice(3), ['a2', 'a3'], 'four at once');
  passMs(250);
  assert.deepEqual(begun.slice(5), ['a4'], 'and then four a second');
});

test('a source that proves nothing gets few handshakes, and one that does never waits for that', () => {
  const limits = { betweenMs: 1, runningPerSource: 2, unprovedPerSecond: 2, unprovedAtOnce: 3 };
  const { turns, enter } = turnsWith(limits);
  const waiting = new Map<string, net.Socket>();
  for (let index = 0; index < 12; index++) waiting.set(`bad${index}`, enter(`bad${index}`, { source: 'bad' }));
  for (let index = 0; index < 12; index++) waiting.set(`good${index}`, enter(`good${index}`, { source: 'good' }));
  const answerAll = (): void => {
    for (const name of begun) {
      const socket = waiting.get(name);
      if (socket === undefined) continue;
      if (name.startsWith('good')) turns.leaveProved(socket);
      else turns.leave(socket);
      waiting.delete(name);
    }
  };
  for (let ms = 0; ms < 400; ms++) {
    passMs(1);
    answerAll();
  }
  const begunOf = (source: string): number => begun.filter((name) => name.startsWith(source)).length;
  assert.deepEqual([begunOf('bad'), begunOf('good')], [3, 12], 'three at once');
  for (let ms = 0; ms < 1000; ms++) {
    passMs(1);
    answerAll();
  }
  assert.deepEqual([begunOf('bad'), begunOf('good')], [5, 12], 'and then two a second');
});

test('a proved source that broke the protocol waits for its next handshake, and not for ever', () => {
  const { turns, enter } = turnsWith({ betweenMs: 1, unprovedPerSecond: 2, unprovedAtOnce: 3 });
  const first = enter('a', { source: 'a' });
  passMs(5);
  turns.leaveProved(first);
  for (let count = 0; count < 10; count++) turns.punish({ listener: web, source: 'a' });
  enter('again', { source: 'a' });
  enter('b');
  passMs(1900);
  assert.deepEqual(begun, ['a', 'b']);
  passMs(200);
  assert.deepEqual(begun, ['a', 'b', 'again']);
});

test('what a proved source does beyond its part delays its next handshake, each time a little, and at most by what it may owe', () => {
  const { turns, enter } = turnsWith({ betweenMs: 1, unprovedPerSecond: 2, unprovedAtOnce: 3 });
  for (let count = 0; count < 199; count++) turns.charge({ listener: web, source: 'a' }, 1 / 100);
  enter('still', { source: 'a' });
  passMs(5);
  assert.deepEqual(begun, ['still'], 'as many as it may at once');
  for (let count = 0; count < 100; count++) turns.charge({ listener: web, source: 'a' }, 1 / 100);
  enter('late', { source: 'a' });
  passMs(900);
  assert.deepEqual(begun, ['still']);
  passMs(200);
  assert.deepEqual(begun, ['still', 'late']);
});

test('of those that have too many the one goes that is silent for the longest, or else the oldest', () => {
  const { turns, enter } = turnsWith({ perSource: 3 });
  enter('due', { source: 'a' });
  enter('silent1', { source: 'a', isSilent: true });
  enter('silent2', { source: 'a', isSilent: true });
  enter('elsewhere', { source: 'a', listener: db });
  assert.deepEqual(cut, []);
  enter('x', { source: 'a' });
  enter('y', { source: 'a' });
  enter('z', { source: 'a' });
  assert.deepEqual(cut, ['silent1', 'silent2', 'due']);
  assert.equal(turns.size, 4);
});

test('a listener that is full loses one of the source that has the most, and all together one of the fullest listener', () => {
  const { turns, enter } = turnsWith({ perListener: 4, total: 6 });
  enter('honest', { isSilent: true });
  for (const name of ['a1', 'a2', 'a3']) enter(name, { source: 'a', isSilent: true });
  enter('new', { isSilent: true });
  assert.deepEqual(cut, ['a1']);
  for (const name of ['d1', 'd2']) enter(name, { listener: db, isSilent: true });
  assert.deepEqual(cut, ['a1']);
  enter('d3', { listener: db, isSilent: true });
  assert.deepEqual(cut, ['a1', 'a2']);
  assert.equal(turns.of(web).length, 3);
  assert.equal(turns.of(null).length, 6);
});

test('a handshake that does not go on gives its place to one that waits, after a second', () => {
  const { enter } = turnsWith({ betweenMs: 1, runningTotal: 2 });
  enter('stuck1');
  enter('stuck2');
  passMs(5);
  enter('honest');
  passMs(900);
  assert.deepEqual([begun, cut], [['stuck1', 'stuck2'], []]);
  passMs(150);
  assert.deepEqual([begun, cut], [['stuck1', 'stuck2', 'honest'], ['stuck1']]);
});

test('a silent one that goes is noticed, and takes no turn', () => {
  const { turns, enter } = turnsWith();
  enter('silent', { isSilent: true });
  passMs(200);
  gone.add('silent');
  passMs(70);
  assert.deepEqual([begun, cut, turns.size], [[], ['silent'], 0]);
});

test('what leaves while it waits takes no turn', () => {
  const { turns, enter } = turnsWith({ betweenMs: 5 });
  enter('a');
  const left = enter('b');
  enter('c');
  passMs(1);
  assert.ok(turns.leave(left));
  assert.ok(!turns.leave(left));
  passMs(20);
  assert.deepEqual(begun, ['a', 'c']);
});
