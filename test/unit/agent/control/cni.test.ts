import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCniRequest } from '../../../../agent/control/cni/cni-request.js';
import { allowedNetnsPath } from '../../../../agent/control/workloads/network-namespace.js';
import { formatEnrolledList } from '../../../../agent/control/cni/enrolled-list.js';
import { RegisteredPods } from '../../../../agent/control/cni/enrolled-pods.js';
import { PodSandboxes } from '../../../../agent/control/workloads/pod-sandboxes.js';
import type { NodeEnrolment } from '../../../../shared/wire/node-enrolment.js';
import { createLog } from '../../../../shared/log.js';
import { FakeScheduler } from '../../../support/agent/fake-scheduler.js';
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

test('the list has a version and a count, and only names of namespaces and UIDs of pods', () => {
  const none = new Set<string>();
  assert.equal(formatEnrolledList({ namespaces: none, inside: none, outside: none }), 'culvert-enrolled 2\nend 0\n');
  const namespaces = new Set(['shop', 'billing', 'With.Dots', 'end 1', '', 'a\nb', 'x'.repeat(64)]);
  const inside = new Set(['6e2c', 'x y', '']);
  const outside = new Set(['b_1', 'A.0', 'x'.repeat(129), '\u00e9']);
  const lines = ['namespace billing', 'namespace shop', 'inside 6e2c', 'outside A.0', 'outside b_1', 'end 5'];
  assert.equal(formatEnrolledList({ namespaces, inside, outside }), `culvert-enrolled 2\n${lines.join('\n')}\n`);
});

test('a pod is enrolled when a registered workload names its namespace; what is not complete is not known', () => {
  const pod = { namespace: 'shop', name: 'web-1', uid: '', netnsPath: '/run/netns/cni-1', netnsInode: 1 };
  const web = workloadNamed('shop/web');
  const db = workloadNamed('data/db');
  let isComplete = false;
  let wanted: ReadonlyMap<typeof web, { netns: string }> | null = null;
  const pods = new RegisteredPods({
    wanted: () => wanted,
    isComplete: () => isComplete,
    isCurrent: () => true,
    told: () => null,
    place: () => assert.fail('no pod has this UID'),
  });
  assert.deepEqual([pods.find(pod).kind, pods.enrolled()], ['unknown', null]);
  wanted = new Map([
    [db, { netns: 'cni-0' }],
    [web, { netns: 'cni-1' }],
  ]);
  assert.deepEqual(pods.find(pod), { kind: 'workload', name: web });
  assert.deepEqual(pods.find({ ...pod, netnsPath: '/run/netns/cni-2' }), { kind: 'unknown', isLate: false });
  assert.equal(pods.enrolled(), null);
  isComplete = true;
  assert.deepEqual(pods.find({ ...pod, netnsPath: '/run/netns/cni-2' }), { kind: 'notEnrolled' });
  assert.deepEqual(pods.enrolled()?.namespaces, new Set(['shop', 'data']));
});

test('a pod is found by its UID, whose namespace is told at once; one that may come yet is waited for', () => {
  const pod = { namespace: 'shop', name: 'web-1', uid: '6e2c', netnsPath: '/run/netns/cni-1', netnsInode: 1 };
  const web = workloadNamed('shop/web-1');
  const placed: string[] = [];
  let isCurrent = true;
  const pods = new RegisteredPods({
    // The sandbox before it: what the name of a namespace says does not count.
    wanted: () => new Map([[web, { netns: '/run/netns/cni-0', pod: '6e2c' }]]),
    isComplete: () => true,
    isCurrent: () => isCurrent,
    told: () => null,
    place: (uid, netnsPath) => placed.push(`${uid} ${netnsPath}`),
  });
  assert.deepEqual(pods.find(pod), { kind: 'workload', name: web });
  assert.deepEqual(placed, ['6e2c /run/netns/cni-1']);
  assert.deepEqual(pods.find({ ...pod, uid: 'other' }), { kind: 'unknown', isLate: true });
  isCurrent = false;
  assert.deepEqual(pods.find({ ...pod, uid: 'other' }), { kind: 'unknown', isLate: false });
  assert.deepEqual(pods.find({ ...pod, uid: 'other', namespace: 'guests' }), { kind: 'notEnrolled' });
  assert.deepEqual(pods.find({ ...pod, uid: '' }), { kind: 'notEnrolled' });
});

test('of a cluster the controller says which pods wait, however few are known here, and which do not', () => {
  const pod = { namespace: 'shop', name: 'web-1', uid: 'first', netnsPath: '/run/netns/cni-1', netnsInode: 1 };
  const web = workloadNamed('guests/web');
  let told: NodeEnrolment | null = null;
  let isComplete = true;
  const pods = new RegisteredPods({
    wanted: () => new Map([[web, { netns: null, pod: '6e2c' }]]),
    isComplete: () => isComplete,
    isCurrent: () => true,
    told: () => told,
    place: () => undefined,
  });
  assert.deepEqual(pods.find(pod), { kind: 'notEnrolled' });
  told = { version: 1, namespaces: ['guests', 'shop'], outside: ['6e2c', '77'] };
  assert.deepEqual(pods.find(pod), { kind: 'awaited' });
  assert.deepEqual(pods.find({ ...pod, uid: '77' }), { kind: 'notEnrolled' });
  assert.deepEqual(pods.find({ ...pod, uid: '6e2c' }), { kind: 'workload', name: web });
  // What is no pod of a cluster has no entry that could still come.
  assert.deepEqual(pods.find({ ...pod, uid: '' }), { kind: 'notEnrolled' });
  assert.deepEqual(pods.find({ ...pod, namespace: 'others' }), { kind: 'notEnrolled' });
  assert.deepEqual(pods.enrolled(), {
    namespaces: new Set(['guests', 'shop']),
    inside: new Set(['6e2c']),
    outside: new Set(['77']),
  });
  isComplete = false;
  assert.deepEqual(pods.find({ ...pod, uid: '77' }), { kind: 'notEnrolled' });
  assert.deepEqual(pods.find(pod), { kind: 'unknown', isLate: false });
});

test('a sandbox that is told while the cache is read stays known', async () => {
  const scheduler = new FakeScheduler();
  const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });
  let answer: (results: readonly string[]) => void = () => undefined;
  const read = (): Promise<readonly string[]> => new Promise((resolve) => (answer = resolve));
  const sandboxes = new PodSandboxes({ log, scheduler, onChange: () => undefined, read });
  sandboxes.follow(new Set(['a', 'b']));
  scheduler.runNext();
  sandboxes.place('a', '/proc/self/ns/net');
  answer([]);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(sandboxes.pathOf('a'), '/proc/self/ns/net');
  sandboxes.close();
});

test('a sandbox that is told counts until the cache of the runtime has it, and only for a pod that is wanted', async () => {
  const scheduler = new FakeScheduler();
  const log = createLog({ name: 'test', level: 'error', stream: { write: () => undefined } });
  let changes = 0;
  let reads = 0;
  const sandboxes = new PodSandboxes({
    log,
    scheduler,
    onChange: () => changes++,
    read: async () => {
      reads++;
      return [];
    },
  });
  sandboxes.place('a', '/proc/self/ns/net');
  assert.deepEqual([sandboxes.pathOf('a'), changes], [null, 0]);
  sandboxes.follow(new Set(['a', 'b']));
  sandboxes.place('a', '/proc/self/ns/net');
  sandboxes.place('a', '/proc/self/ns/net');
  assert.deepEqual([sandboxes.pathOf('a'), changes], ['/proc/self/ns/net', 1]);
  // The other one is looked for, and the cache has neither.
  scheduler.runNext();
  await new Promise((resolve) => setImmediate(resolve));
  assert.ok(reads > 0);
  assert.equal(sandboxes.pathOf('a'), '/proc/self/ns/net');
  sandboxes.close();
});
