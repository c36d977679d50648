import assert from 'node:assert/strict';
import { test } from 'node:test';
import { allowedNetnsPath, parseCniRequest } from '../../../../agent/control/cni/cni-request.js';
import { formatEnrolledList } from '../../../../agent/control/cni/enrolled-list.js';
import { RegisteredPods } from '../../../../agent/control/cni/enrolled-pods.js';
import { workloadNamed } from '../../../support/routing/names.js';

const request = {
  version: 1,
  command: 'ADD',
  timeoutMs: 9990,
  containerId: '0f3a',
  netns: '/var/run/netns/cni-1',
  interface: 'eth0',
  pod: { namespace: 'shop', name: 'web-1', uid: '6e2c' },
};

test('a request of the plugin is read strictly', () => {
  assert.deepEqual(parseCniRequest(JSON.stringify(request)), request);
  for (const wrong of [
    {},
    { ...request, version: 2 },
    { ...request, command: 'DEL' },
    { ...request, timeoutMs: -1 },
    { ...request, timeoutMs: 0.5 },
    { ...request, containerId: '' },
    { ...request, netns: `/${'x'.repeat(300)}` },
    { ...request, pod: { ...request.pod, uid: null } },
    { ...request, pod: { ...request.pod, label: 'x' } },
    { ...request, more: true },
  ]) {
    assert.equal(parseCniRequest(JSON.stringify(wrong)), null, JSON.stringify(wrong));
  }
  for (const text of ['', '{', 'null', '[]', JSON.stringify(request).slice(0, -1)])
    assert.equal(parseCniRequest(text), null);
});

test('namespaces are taken from the directories of container runtimes only, by a plain name', () => {
  for (const path of ['/run/netns/cni-1', '/var/run/netns/cni-1'])
    assert.equal(allowedNetnsPath(path), '/run/netns/cni-1');
  for (const path of [
    '',
    'cni-1',
    '/run/netns',
    '/run/netns/',
    '/run/netns/..',
    '/run/netns/.x',
    '/run/netns/a/b',
    '/run/netns/../x',
    '/run/netns//x',
    '/run/netns/a\nb',
    '/run/netnsx/a',
    '/proc/1/ns/net',
    '/tmp/run/netns/a',
  ]) {
    assert.equal(allowedNetnsPath(path), null, path);
  }
});

test('the list has a version and a count, and only names of namespaces', () => {
  assert.equal(formatEnrolledList(new Set()), 'culvert-enrolled 1\nend 0\n');
  const names = new Set(['shop', 'billing', 'With.Dots', 'end 1', '', 'a\nb', 'x'.repeat(64)]);
  assert.equal(formatEnrolledList(names), 'culvert-enrolled 1\nbilling\nshop\nend 2\n');
});

test('a pod is enrolled when a registered workload names its namespace; what is not complete is not known', () => {
  const pod = { namespace: 'shop', name: 'web-1', uid: '', netnsPath: '/run/netns/cni-1', netnsInode: 1 };
  const web = workloadNamed('shop/web');
  const db = workloadNamed('data/db');
  let isComplete = false;
  let wanted: ReadonlyMap<typeof web, { netns: string }> | null = null;
  const pods = new RegisteredPods({ wanted: () => wanted, isComplete: () => isComplete });
  assert.deepEqual([pods.find(pod).kind, pods.namespaces()], ['unknown', null]);
  wanted = new Map([
    [db, { netns: 'cni-0' }],
    [web, { netns: 'cni-1' }],
  ]);
  assert.deepEqual(pods.find(pod), { kind: 'workload', name: web });
  assert.deepEqual(pods.find({ ...pod, netnsPath: '/run/netns/cni-2' }), { kind: 'unknown' });
  assert.equal(pods.namespaces(), null);
  isComplete = true;
  assert.deepEqual(pods.find({ ...pod, netnsPath: '/run/netns/cni-2' }), { kind: 'notEnrolled' });
  assert.deepEqual(pods.namespaces(), new Set(['shop', 'data']));
});
