import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ProtectedWorkload } from '../../../../agent/control/workloads/refusals.js';
import { reportedWorkload } from '../../../../agent/control/workloads/reported-workload.js';
import { servedWorkload } from '../../../support/agent/served-workload.js';

const nowMs = 1_700_000_000_000;
const served: ProtectedWorkload = servedWorkload(nowMs);

test('a heartbeat says of a captured workload whether its connections are refused', () => {
  assert.deepEqual(reportedWorkload(served, nowMs), {
    name: 'shop/web',
    captured: true,
    certificateNotAfterMs: nowMs + 1000,
    problem: null,
  });
  const isUnserved = (changes: Partial<ProtectedWorkload>) =>
    reportedWorkload({ ...served, ...changes }, nowMs).isUnserved;
  assert.equal(isUnserved({ isListening: false, hasFailed: true, problem: 'port 15001 is taken' }), true);
  assert.equal(isUnserved({ certificateNotAfterMs: nowMs }), true);
  assert.equal(isUnserved({ captureProblem: 'its rules are damaged' }), true);
  // It works all the same, or `captured` says it.
  assert.equal(isUnserved({ certificateProblem: 'it was not renewed' }), undefined);
  assert.equal(isUnserved({ captured: false }), undefined);
});
