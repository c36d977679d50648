import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SerialQueue } from '../../../shared/serial-queue.js';

test('a task that is not wanted any more when its turn comes is not begun, and stops no other', async () => {
  const queue = new SerialQueue();
  const gone = new AbortController();
  const begun: string[] = [];
  const running = queue.run(async () => {
    begun.push('first');
    gone.abort(new Error('gone'));
  }, gone.signal);
  const dropped = queue.run(async () => begun.push('dropped'), gone.signal);
  const last = queue.run(async () => begun.push('last'));
  await assert.rejects(dropped, { message: 'gone' });
  await Promise.all([running, last]);
  assert.deepEqual(begun, ['first', 'last']);
});
