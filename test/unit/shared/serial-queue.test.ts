import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SerialQueue } from '../../../shared/serial-queue.js';

test('tasks run one after another, and one that fails stops no other', async () => {
  const queue = new SerialQueue();
  const begun: string[] = [];
  const failing = queue.run(async () => {
    begun.push('first');
    throw new Error('as the test wants it');
  });
  const last = queue.run(async () => begun.push('last'));
  assert.deepEqual(begun, []);
  await assert.rejects(failing, { message: 'as the test wants it' });
  await last;
  assert.deepEqual(begun, ['first', 'last']);
});
