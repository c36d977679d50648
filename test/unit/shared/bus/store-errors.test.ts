import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ErrorCode, NatsError } from 'nats';
import { explainedStoreError, toBusError, toStoreError } from '../../../../shared/bus/bus-error.js';
import { CulvertError } from '../../../../shared/errors.js';

const timeout = new NatsError('TIMEOUT', ErrorCode.Timeout);

test('a store that does not answer is nats-server’s matter, and a request without an answer the controller’s', () => {
  const stored = toStoreError('cannot write x', timeout);
  assert.deepEqual([stored.code, stored.message], ['BUS_TIMEOUT', 'cannot write x: no answer in time']);
  assert.match(stored.hint ?? '', /nats-server.*disk/);
  assert.doesNotMatch(stored.hint ?? '', /controller/);
  assert.match(toBusError('no answer', timeout).hint ?? '', /controller/);
});

test('the owner of the disk explains what the client cannot, and only that', async () => {
  const full = new CulvertError({ code: 'DISK_FULL', message: 'the disk is full' });
  const guard = {
    beforeWriting: () => Promise.resolve(),
    written: () => undefined,
    explain: () => Promise.resolve(full),
  };
  assert.equal(await explainedStoreError('cannot write x', timeout, guard), full);
  const conflict = new CulvertError({ code: 'BUS_CONFLICT', message: 'it has changed' });
  assert.equal(await explainedStoreError('cannot update x', conflict, guard), conflict);
});
