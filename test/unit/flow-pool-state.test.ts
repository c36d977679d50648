import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { ConnectionCounts, SlotTable } from '../../agent/dataplane/state/connection-counts.js';
import { RegistryIndex } from '../../agent/dataplane/route/registry-index.js';
import { LatestState } from '../../agent/dataplane/state/latest-state.js';
import type { LocalWorkload } from '../../agent/dataplane/messages.js';
import type { IpAddress } from '../../shared/address.js';
import { registryKey, type ServiceEntry } from '../../shared/wire/registry.js';

const local = (name: string, netnsInode = 1): LocalWorkload => ({ name, netnsPath: `/run/netns/${name}`, netnsInode });

const entry = (name: string, port = 80): ServiceEntry => ({
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
    const [registry, ...rest] = state.replay();
    assert.ok(registry?.type === 'registry');
    const index = new RegistryIndex();
    index.apply(registry);
    assert.equal(index.size, 1);
    assert.deepEqual(index.serviceAt('198.18.200.1' as IpAddress), entry('a', 81));
    assert.deepEqual(rest, [
      { type: 'certificates', rootsPem: 'new', certificates: [] },
      { type: 'workloads', workloads: [local('shop/a')] },
    ]);
  });
});

describe('the shared counts of connections', () => {
  test('add up over workers and forget a dead one', () => {
    const buffer = ConnectionCounts.allocate(2);
    const first = new ConnectionCounts({ buffer, workers: 2 });
    const second = new ConnectionCounts({ buffer, workers: 2 });
    first.add(0, 7, 1);
    second.add(1, 7, 1);
    second.add(1, 7, 1);
    assert.equal(first.total(7), 3);
    first.clearWorker(1);
    assert.equal(second.total(7), 1);
    assert.equal(second.total(8), 0);
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
