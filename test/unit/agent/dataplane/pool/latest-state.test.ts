import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { WorkloadUsage } from '../../../../../agent/dataplane/workload-usage.js';
import { SlotTable } from '../../../../../agent/dataplane/pool/slot-table.js';
import { RegistryIndex } from '../../../../../agent/dataplane/route/registry-index.js';
import { LatestState } from '../../../../../agent/dataplane/pool/latest-state.js';
import type { LocalWorkload } from '../../../../../agent/dataplane/messages.js';
import type { IpAddress } from '../../../../../shared/address.js';
import { registryKey, type RegistryService } from '../../../../../shared/routing/registry-entry.js';
import { workloadNamed } from '../../../../support/routing/names.js';

const local = (name: string, netnsInode = 1): LocalWorkload => ({
  name: workloadNamed(name),
  netnsPath: `/run/netns/${name}`,
  netnsInode,
});

const entry = (name: string, port = 80): RegistryService => ({
  kind: 'service',
  namespace: 'shop',
  name,
  vips: ['198.18.200.1' as IpAddress],
  ports: [{ port, targetPort: port }],
  selector: { app: name },
});

describe('the state for a replaced worker', () => {
  test('has only an empty list of workloads before anything was sent', () => {
    assert.deepEqual(new LatestState().replay(), [{ type: 'workloads', workloads: [] }]);
  });

  test('folds registry messages into one and puts the workloads last', () => {
    const state = new LatestState();
    state.absorb({ type: 'workloads', workloads: [local('shop/a')] });
    state.absorb({ type: 'registry', isFull: true, upserts: [entry('a'), entry('b')], removals: [] });
    state.absorb({ type: 'registry', isFull: false, upserts: [entry('a', 81)], removals: [registryKey(entry('b'))] });
    state.absorb({ type: 'certificates', rootsPem: 'old', certificates: [] });
    state.absorb({ type: 'certificates', rootsPem: 'new', certificates: [] });
    state.absorb({ type: 'rulesAge', tooOld: 'not confirmed' });
    const [registry, ...rest] = state.replay();
    assert.ok(registry?.type === 'registry');
    const index = new RegistryIndex();
    index.apply(registry);
    assert.equal(index.size, 1);
    assert.deepEqual(index.serviceAt('198.18.200.1' as IpAddress), entry('a', 81));
    assert.deepEqual(rest, [
      { type: 'rulesAge', tooOld: 'not confirmed' },
      { type: 'certificates', rootsPem: 'new', certificates: [] },
      { type: 'workloads', workloads: [local('shop/a')] },
    ]);
  });
});

describe('what workloads use, shared by workers', () => {
  test('add up over workers and forget a dead one', () => {
    const buffer = WorkloadUsage.allocate(2);
    const first = new WorkloadUsage({ buffer, workers: 2 });
    const second = new WorkloadUsage({ buffer, workers: 2 });
    first.addConnections(0, 7, 1);
    second.addConnections(1, 7, 1);
    second.addConnections(1, 7, 1);
    assert.equal(first.connections(7), 3);
    first.clearWorker(1);
    assert.equal(second.connections(7), 1);
    assert.equal(second.connections(8), 0);
    second.setWaitingBytes(0, 7, 3000);
    first.setWaitingBytes(1, 7, 1);
    assert.equal(first.waitingBytes(7), 4096, 'each worker rounds up to KiB');
    assert.equal(first.connections(7), 1);
    assert.equal(first.waitingBytes(8), 0);
    second.clearWorker(0);
    assert.equal(first.waitingBytes(7), 1024);
  });

  test('give every workload a slot of its own for as long as it stays', () => {
    const table = new SlotTable();
    const [a, b] = table.assign([local('a'), local('b')]);
    assert.notEqual(a?.slot, b?.slot);
    const [again] = table.assign([local('b')]);
    assert.equal(again?.slot, b?.slot);
    const [renewed] = table.assign([local('b', 2)]);
    assert.notEqual(renewed?.slot, b?.slot, 'a new namespace is a new workload');
  });
});
