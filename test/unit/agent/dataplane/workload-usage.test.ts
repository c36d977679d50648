import assert from 'node:assert/strict';
import { test } from 'node:test';
import { WorkloadUsage } from '../../../../agent/dataplane/workload-usage.js';

test('a workload is served by a worker from its listeners on, until it leaves or the worker dies', () => {
  const usage = new WorkloadUsage({ buffer: WorkloadUsage.allocate(2), workers: 2 });
  const served = (): boolean[] => [0, 1].map((worker) => usage.isServed(worker, 7));
  assert.deepEqual(served(), [false, false]);
  usage.setServed(0, 7, true);
  usage.setServed(1, 7, true);
  usage.addConnections(1, 7, 1);
  assert.deepEqual([served(), usage.isServed(1, 8), usage.connections(7)], [[true, true], false, 1]);
  usage.setServed(0, 7, false);
  assert.deepEqual(served(), [false, true]);
  usage.clearWorker(1);
  assert.deepEqual([served(), usage.connections(7)], [[false, false], 0]);
});
