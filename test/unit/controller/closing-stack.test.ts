import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ClosingStack } from '../../../controller/closing-stack.js';
import { silentLog } from '../../support/controller/controller-fixture.js';

test('a part that never closes or fails does not keep the others from being closed', async () => {
  const closed: string[] = [];
  const stack = new ClosingStack({ log: silentLog, closeWithinMs: 20 });
  stack.push('first', () => closed.push('first'));
  stack.push('hung', () => new Promise(() => undefined));
  stack.push('broken', () => Promise.reject(new Error('no')));
  stack.push('last', () => closed.push('last'));
  await stack[Symbol.asyncDispose]();
  assert.deepEqual(closed, ['last', 'first']);
});
