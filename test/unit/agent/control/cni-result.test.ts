import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readCniResult } from '../../../../agent/control/workloads/cni-result.js';

const cniArgs = [
  ['IgnoreUnknown', '1'],
  ['K8S_POD_UID', 'u-1'],
  ['K8S_POD_NAME', 'web'],
];
const cached = { kind: 'cniCacheV1', containerId: 'c', ifName: 'eth0', cniArgs, netns: '/var/run/netns/cni-1' };

test('the record of a sandbox says the UID of the pod and the path of its namespace', () => {
  assert.deepEqual(readCniResult(JSON.stringify(cached)), { uid: 'u-1', netnsPath: '/run/netns/cni-1' });
});

test('a runtime with libcni before 1.2 names the namespace at its interfaces only', () => {
  const result = { interfaces: [{ name: 'veth0' }, { name: 'eth0', sandbox: '/run/netns/cni-2' }] };
  const json = JSON.stringify({ ...cached, netns: undefined, result });
  assert.deepEqual(readCniResult(json), { uid: 'u-1', netnsPath: '/run/netns/cni-2' });
});

test('what is no record of a pod’s sandbox says nothing', () => {
  const others: unknown[] = [
    { ...cached, cniArgs: [['K8S_POD_NAME', 'web']] },
    { ...cached, cniArgs: null },
    { ...cached, cniArgs: [['K8S_POD_UID', '']] },
    { ...cached, netns: undefined },
    { ...cached, netns: 'cni-1' },
    { ...cached, netns: '/run/netns/../../proc/1/ns/net' },
    { ...cached, netns: '/proc/1/ns/net' },
    { ...cached, cniArgs: 'K8S_POD_UID=u-1' },
    null,
    [],
  ];
  for (const each of others) assert.equal(readCniResult(JSON.stringify(each)), null, JSON.stringify(each));
  assert.equal(readCniResult('{"netns": "/run/ne'), null, 'it is being written');
  assert.equal(readCniResult(''), null);
});
