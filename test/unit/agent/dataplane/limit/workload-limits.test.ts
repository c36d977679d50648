import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WaitingBytes } from '../../../../../agent/dataplane/limit/waiting-bytes.js';
import { WorkloadLimits } from '../../../../../agent/dataplane/limit/workload-limits.js';
import { BackpressureTracker } from '../../../../../agent/dataplane/relay/backpressure-tracker.js';
import { WorkloadUsage } from '../../../../../agent/dataplane/workload-usage.js';

const mebibyte = 1024 ** 2;
const settings = {
  maxConnectionsPerWorkload: 10,
  maxWaitingBytesPerWorkload: 8 * mebibyte,
  maxWaitingBytes: 12 * mebibyte,
};

/** Two workers; `waits[worker]` is what waits in it, by slot. */
function limitsWith(...waits: readonly Readonly<Record<number, number>>[]): (slot: number) => string | null {
  const usage = new WorkloadUsage({ buffer: WorkloadUsage.allocate(2), workers: 2 });
  for (const [workerIndex, bySlot] of waits.entries()) {
    const backpressure = new BackpressureTracker();
    const sums = new Map(Object.entries(bySlot).map(([slot, bytes]) => [Number(slot), bytes * mebibyte]));
    backpressure.waiting = () => ({ bytesInAll: [...sums.values()].reduce((a, b) => a + b, 0), bySlot: sums });
    const waiting = new WaitingBytes({ backpressure, usage, workerIndex });
    waiting.poll();
    waiting.stop();
  }
  const limits = new WorkloadLimits({ settings, usage, workerIndex: 0 });
  return (slot) => limits.exceeded({ name: `shop/w${slot}`, slot });
}

test('what waits in all connections has a limit, which holds for those that have more than an equal part', () => {
  const below = limitsWith({ 1: 6, 2: 1 }, { 3: 5 });
  assert.deepEqual([1, 2, 3].map(below), [null, null, null]);
  const above = limitsWith({ 1: 6, 2: 1 }, { 3: 6 });
  assert.match(
    above(1) ?? '',
    /^13631488 bytes wait in the connections of all workloads, limit 12582912, 6291456 .* shop\/w1$/,
  );
  assert.match(above(3) ?? '', /shop\/w3$/);
  assert.deepEqual([above(2), above(4)], [null, null], "a workload does not use up what is others'");
});

test('one that exceeds its own limit says so', () => {
  const exceeded = limitsWith({ 1: 9 }, { 2: 9 });
  assert.match(exceeded(1) ?? '', /^9437184 bytes wait in the connections of shop\/w1, limit 8388608$/);
});
