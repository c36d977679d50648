import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { test, type TestContext } from 'node:test';
import { ConnectionRecord } from '../../../../../agent/dataplane/connection/connection-record.js';
import { drainConnections } from '../../../../../agent/dataplane/flow/drain-connections.js';
import { LiveConnections } from '../../../../../agent/dataplane/flow/live-connections.js';
import { TrackedConnection } from '../../../../../agent/dataplane/flow/tracked-connection.js';
import { WorkloadLimits } from '../../../../../agent/dataplane/limit/workload-limits.js';
import { HostedWorkload } from '../../../../../agent/dataplane/listen/hosted-workload.js';
import { WorkerState } from '../../../../../agent/dataplane/state/worker-state.js';
import { WorkloadUsage } from '../../../../../agent/dataplane/workload-usage.js';
import { workloadNamed } from '../../../../support/routing/names.js';

function openConnections(t: TestContext, count: number): { connections: LiveConnections; all: TrackedConnection[] } {
  const netnsPath = '/proc/self/ns/net';
  const netnsInode = statSync(netnsPath).ino;
  const workload = HostedWorkload.open({ name: workloadNamed('shop/web'), netnsPath, netnsInode, slot: 0 });
  t.after(() => workload.close());
  const usage = new WorkloadUsage({ buffer: WorkloadUsage.allocate(1), workers: 1 });
  const settings = { maxConnectionsPerWorkload: 100, maxWaitingBytesPerWorkload: 1000, maxWaitingBytes: 4000 };
  const limits = new WorkloadLimits({ settings, usage, workerIndex: 0 });
  const connections = new LiveConnections({ state: new WorkerState(), limits });
  const all = Array.from({ length: count }, () => {
    const record = new ConnectionRecord({ direction: 'outbound' });
    return new TrackedConnection({ record, workload, clock: { nowMs: () => 0 }, inGrace: connections.inGrace });
  });
  for (const connection of all) connections.add(connection);
  return { connections, all };
}

test('a drain is over at once when the last connection ends, and has cut none', async (t) => {
  const { connections, all } = openConnections(t, 1);
  const drained = drainConnections({ connections, graceMs: 60_000, cutMs: 60_000, giveUp: () => assert.fail() });
  assert.equal(connections.remove(all[0]!), true);
  assert.deepEqual(await drained, { cut: 0, givenUp: 0, named: [] });
});

test('a drain ends whatever is open: it cuts, gives up what does not end then, and says so', async (t) => {
  const { connections, all } = openConnections(t, 30);
  // All but the last two obey.
  for (const connection of all.slice(0, -2)) connection.signal.onCut(() => connections.remove(connection));
  const stuck: TrackedConnection[] = [];
  const drained = await drainConnections({
    connections,
    graceMs: 5,
    cutMs: 5,
    giveUp: (connection) => {
      stuck.push(connection);
      connections.remove(connection);
    },
  });
  assert.deepEqual([drained.cut, drained.givenUp], [30, 2]);
  assert.deepEqual(stuck, all.slice(-2));
  assert.equal(drained.named.length, 20, 'a log line has a bounded length');
  assert.equal(drained.named[0]?.traceId, all[0]?.record.traceId);
  assert.deepEqual(new Set(all.map(({ signal }) => signal.cut?.reason)), new Set(['DRAIN']));
  assert.equal(connections.size, 0);
  assert.equal(connections.remove(stuck[0]!), false, 'an end that comes later finds nothing to close');
});
