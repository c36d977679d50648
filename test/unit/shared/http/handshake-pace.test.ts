import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { HandshakePace } from '../../../../shared/http/handshake-pace.js';

let begun: string[];
let nowMs: number;
beforeEach(() => {
  [begun, nowMs] = [[], 0];
  mock.timers.enable({ apis: ['setTimeout'] });
  mock.method(performance, 'now', () => nowMs);
});
afterEach(() => {
  mock.reset();
  mock.timers.reset();
});

function passMs(ms: number): void {
  for (let step = 0; step < ms; step++) {
    nowMs++;
    mock.timers.tick(1);
  }
}

test('handshakes begin at a pace, source by source, and of one source the newest first', () => {
  const pace = new HandshakePace({ betweenMs: 5 });
  const wait = (source: string, name: string): (() => void) => pace.wait(source, () => begun.push(name));
  for (const name of ['s1', 's2', 's3']) wait('storm', name);
  wait('client', 'c1');
  assert.deepEqual(begun, []);
  passMs(1);
  assert.deepEqual(begun, ['s3']);
  passMs(4);
  assert.deepEqual(begun, ['s3']);
  passMs(40);
  assert.deepEqual(begun, ['s3', 'c1', 's2', 's1']);
  wait('client', 'c2');
  passMs(1);
  assert.deepEqual(begun.slice(4), ['c2'], 'after a pause one begins at once');
});

test('what gives up takes no turn', () => {
  const pace = new HandshakePace({ betweenMs: 5 });
  const giveUp = pace.wait('a', () => begun.push('a'));
  pace.wait('b', () => begun.push('b'));
  giveUp();
  giveUp();
  passMs(1);
  assert.deepEqual(begun, ['b']);
});
