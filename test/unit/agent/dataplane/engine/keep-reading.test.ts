import assert from 'node:assert/strict';
import type net from 'node:net';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { keepReading } from '../../../../../agent/dataplane/engine/node/keep-reading.js';

type FakeSocket = { bytesRead: number; reads: number; _handle: { readStart: () => void } | null };

let socket: FakeSocket;

beforeEach(() => {
  mock.timers.enable({ apis: ['setTimeout'] });
  socket = { bytesRead: 0, reads: 0, _handle: { readStart: () => (socket.reads += 1) } };
});

afterEach(() => mock.timers.reset());

/** How often the reading was started again in this time. */
function readsWithin(ms: number, onMillisecond: () => void = () => {}): number {
  const before = socket.reads;
  for (let passed = 0; passed < ms; passed++) {
    onMillisecond();
    mock.timers.tick(1);
  }
  return socket.reads - before;
}

function begin(): () => void {
  return keepReading(socket as unknown as net.Socket);
}

test('a tunnel that moves bytes is looked after every few milliseconds', () => {
  const stop = begin();
  assert.equal(
    readsWithin(1000, () => (socket.bytesRead += 1)),
    200,
  );
  stop();
});

test('a tunnel that moves nothing is looked after rarely, and never less than every 80 ms', () => {
  const stop = begin();
  readsWithin(1000);
  const reads = readsWithin(1600);
  assert.ok(reads >= 19 && reads <= 21, `${reads} reads in 1600 ms`);
  stop();
});

test('bytes after a silence bring the short pause back at the next look', () => {
  const stop = begin();
  readsWithin(1000);
  readsWithin(80, () => (socket.bytesRead += 1));
  const reads = readsWithin(100, () => (socket.bytesRead += 1));
  assert.ok(reads >= 19, `${reads} reads in 100 ms`);
  stop();
});

test('nothing happens any more once it was stopped, and a closed socket is no error', () => {
  const stop = begin();
  socket._handle = null;
  assert.equal(readsWithin(100), 0);
  socket._handle = { readStart: () => (socket.reads += 1) };
  stop();
  assert.equal(readsWithin(1000), 0);
});
