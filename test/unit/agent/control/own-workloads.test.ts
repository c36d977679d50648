import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OwnWorkloads } from '../../../../agent/control/workloads/own-workloads.js';
import type { IpAddress } from '../../../../shared/address.js';
import { podNetns, registryKey, type WorkloadEntry } from '../../../../shared/routing/registry-entry.js';
import { workload } from '../../../support/agent/registry-fixture.js';
import { nodeNamed, workloadNamed } from '../../../support/routing/names.js';

const node = nodeNamed('node1');
const ip = '198.18.10.9' as IpAddress;
const noSandboxes = { follow: () => undefined, pathOf: () => null };
const nothing = { isFull: false, upserts: [], removals: [] } as const;

function entry(name: string, change: Partial<WorkloadEntry> = {}): WorkloadEntry {
  return { ...workload(name), node, netns: name, protocol: 'hbone', ...change };
}

function unreadable(name: string, on = node) {
  return { name: workloadNamed(`shop/${name}`), node: on, netns: name, addresses: [ip] };
}

function wanted(own: OwnWorkloads): (readonly [string, string | null, boolean])[] {
  return [...own.wanted].map(([name, { netns, identity }]) => [name, netns, identity !== null]);
}

test('only workloads of this node that have an agent are wanted', () => {
  const own = new OwnWorkloads({ node, sandboxes: noSandboxes });
  const others = [
    entry('plain', { protocol: 'tcp' }),
    entry('loose', { netns: null }),
    entry('far', { node: nodeNamed('b') }),
  ];
  own.useRegistry({ ...nothing, upserts: [entry('web'), ...others] }, []);
  assert.deepEqual(wanted(own), [['shop/web', 'web', true]]);
  own.useRegistry({ ...nothing, upserts: [entry('web', { node: nodeNamed('b') }), entry('db')] }, []);
  assert.deepEqual(wanted(own), [['shop/db', 'db', true]]);
  own.useRegistry({ ...nothing, removals: [registryKey(entry('db'))] }, []);
  assert.deepEqual(wanted(own), []);
});

test('a workload whose entry cannot be read is captured, and has no identity', () => {
  const own = new OwnWorkloads({ node, sandboxes: noSandboxes });
  own.useRegistry(nothing, [unreadable('db'), unreadable('far', nodeNamed('b'))]);
  assert.deepEqual(wanted(own), [['shop/db', 'db', false]]);
  assert.equal(own.identities.size, 0);
  assert.deepEqual(own.wanted.get(workloadNamed('shop/db'))?.addresses, [ip]);
  own.useRegistry(nothing, []);
  assert.deepEqual(wanted(own), []);
});

test('the version of an entry that could be read stays in force, unless it is not of this node', () => {
  const own = new OwnWorkloads({ node, sandboxes: noSandboxes });
  own.useRegistry({ ...nothing, upserts: [entry('db')] }, [unreadable('db')]);
  assert.deepEqual(wanted(own), [['shop/db', 'db', true]]);
  assert.equal(own.identities.size, 1);
  own.useRegistry({ ...nothing, upserts: [entry('db', { node: nodeNamed('b') })] }, [unreadable('db')]);
  assert.deepEqual(wanted(own), [['shop/db', 'db', false]], 'it moved here');
});

test('a pod is wanted where its sandbox is, and its UID says which pods there are', () => {
  const paths = new Map([['u-1', '/run/netns/cni-1']]);
  let followed: ReadonlySet<string> = new Set();
  const sandboxes = {
    follow: (uids: ReadonlySet<string>) => void (followed = uids),
    pathOf: (uid: string) => paths.get(uid) ?? null,
  };
  const own = new OwnWorkloads({ node, sandboxes });
  const pods = [entry('web', { netns: podNetns('u-1') }), entry('api', { netns: podNetns('u-2') }), entry('vm')];
  own.useRegistry({ ...nothing, upserts: pods }, [{ ...unreadable('new'), netns: podNetns('u-3') }]);
  assert.deepEqual(wanted(own), [
    ['shop/web', '/run/netns/cni-1', true],
    ['shop/api', 'pod:u-2', true],
    ['shop/vm', 'vm', true],
    ['shop/new', 'pod:u-3', false],
  ]);
  assert.deepEqual([...followed], ['u-1', 'u-2', 'u-3']);
});
