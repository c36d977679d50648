import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import path from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import type { ResourceList, StatusAnswer } from '../../../controller/api/api-types.js';
import type { ControllerSettings } from '../../../controller/config/settings.js';
import { renewIdentity } from '../../../controller/stand-by.js';
import {
  callApi,
  eventually,
  ruleDocument,
  silentLog,
  temporaryDirectory,
} from '../../support/controller/controller-fixture.js';
import { ready, spawnedController } from '../../support/controller/controller-process.js';
import { FakeApiServer } from '../../support/kubernetes/fake-api-server.js';

/** Two controllers with one state directory, of which one serves. */
const leases = '/apis/coordination.k8s.io/v1/namespaces/culvert-system/leases';
const labels = { 'app.kubernetes.io/name': 'culvert', 'app.kubernetes.io/component': 'controller' };
let server: FakeApiServer;

before(async () => {
  server = await FakeApiServer.start();
  server.put('/api/v1/namespaces/culvert-system/pods', {
    metadata: { namespace: 'culvert-system', name: hostname(), uid: 'uid-of-pod', labels },
    spec: { nodeName: 'n1' },
    status: { podIPs: [{ ip: '198.18.0.7' }, { ip: '2001:db8::7' }] },
  });
});
after(() => server[Symbol.asyncDispose]());
beforeEach(() => {
  server.isSilent = false;
  // Each test has a mesh of its own.
  server.overwrite('/api/v1/namespaces/culvert-system/configmaps/culvert-ca', {});
  server.put(leases, {
    metadata: { namespace: 'culvert-system', name: 'culvert-controller' },
    spec: { renewTime: 'given back' },
  });
});

type Spawned = Awaited<ReturnType<typeof spawnedController>>;

function withLease(stateDir: string): Promise<Spawned> {
  const cluster = ['--kubernetes-api', server.url.origin, '--kubernetes-ca-file', server.caFile];
  const lease = ['--kubernetes-lease', 'culvert-controller', '--kubernetes-lease-duration', '9s'];
  return spawnedController(stateDir, [...cluster, '--kubernetes-token-file', server.tokenFile, ...lease]);
}

function says(spawned: Spawned, pattern: RegExp): Promise<RegExpExecArray> {
  return eventually(`it says ${pattern.source}`, async () => pattern.exec(spawned.output()) ?? undefined);
}

/** What the log of one that stands by has of a kind, last. */
async function waitsFor(spawned: Spawned, pattern: RegExp): Promise<void> {
  await says(spawned, new RegExp(`"waitsFor":"[^"]*${pattern.source}`));
}

async function apply(spawned: Spawned, rule: string): Promise<void> {
  const documents = ruleDocument(rule, { action: 'allow', ports: [70] });
  const { status, text } = await callApi(await spawned.access(), 'POST', '/v1/apply', { body: { documents } });
  assert.equal(status, 200, text);
}

async function rulesOf(spawned: Spawned): Promise<readonly string[]> {
  const access = await spawned.access();
  const { body } = await callApi(access, 'GET', '/v1/resources/SegmentationRule');
  return (body as ResourceList).items.map(({ resource }) => resource.metadata.name).sort();
}

/** One that serves, and one that stands by for it. */
async function pair(stateDir: string): Promise<readonly [active: Spawned, standby: Spawned]> {
  const active = await withLease(stateDir);
  await ready(await active.access());
  const standby = await withLease(stateDir);
  await waitsFor(standby, /has it/);
  return [active, standby];
}

test('two controllers without a lease: the second is refused with a line that says what to do', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = path.join(directory.path, 'state');
  await using first = await spawnedController(stateDir);
  await first.access();
  await using second = await spawnedController(stateDir);
  assert.deepEqual(await second.exited, [1, null]);
  const line = new RegExp(`the state directory is in use by process ${first.child.pid}.*stop the other controller`);
  assert.match(second.output(), line);
});

test('one stands by: it is ready, leads others to the one that serves, and ends at once when it is stopped', async () => {
  await using directory = await temporaryDirectory();
  const [active, standby] = await pair(path.join(directory.path, 'state'));
  await using _active = active;
  await using _standby = standby;
  const [, port] = await says(standby, /"port":(\d+)/);
  const { caPem, adminToken } = await active.access();
  const other = { url: `https://127.0.0.1:${port}`, caPem, adminToken };
  const { status, body } = await callApi(other, 'GET', '/readyz', { token: null });
  assert.equal(status, 200);
  assert.match((body as { standsBy: string }).standsBy, /the lease is not free: .* has it/);
  assert.match((await callApi(other, 'GET', '/metrics', { token: null })).text, /^culvert_controller_standing_by 1$/m);
  const refused = await callApi(other, 'POST', '/v1/apply', { body: { documents: '' } });
  assert.deepEqual([refused.status, (refused.body as { code: string }).code], [503, 'NOT_LEADER']);
  await eventually('the Service leads to the one that serves', async () => {
    const slices = server.patches.filter(({ path: where }) => where.includes('/endpointslices/'));
    return slices.length >= 2 || undefined;
  });
  const [slice] = server.patches.filter(({ path: where }) => where.endsWith('culvert-controller-active-ipv4'));
  assert.ok(slice);
  const { endpoints, metadata, ports } = slice.body as {
    endpoints: [{ addresses: string[] }];
    metadata: { labels: Record<string, string>; ownerReferences: [{ uid: string }] };
    ports: { name: string; port: number }[];
  };
  assert.equal(slice.type, 'application/apply-patch+yaml');
  assert.deepEqual(endpoints[0].addresses, ['198.18.0.7']);
  assert.equal(metadata.labels['kubernetes.io/service-name'], 'culvert-controller');
  assert.equal(metadata.ownerReferences[0].uid, 'uid-of-pod');
  assert.deepEqual(
    ports.map(({ name }) => name),
    ['https', 'nats'],
  );
  await says(active, /"msg":"this controller has the lease, and serves"/);
  const replicas = async () =>
    ((await callApi(await active.access(), 'GET', '/v1/status')).body as StatusAnswer).replicas;
  const alone = await eventually('its own pod is known', async () => {
    const found = await replicas();
    return found?.serving.node === 'n1' ? found : undefined;
  });
  assert.deepEqual([alone.serving.name, alone.standingBy, alone.problem], [hostname(), [], null]);
  const since = '2026-01-01T00:00:00Z';
  server.put('/api/v1/namespaces/culvert-system/pods', {
    metadata: { namespace: 'culvert-system', name: 'second', labels },
    spec: { nodeName: 'n2' },
    status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: since }] },
  });
  const second = await eventually('the other one is known', async () => (await replicas())?.standingBy[0]);
  assert.deepEqual(second, { name: 'second', node: 'n2', since });
  server.remove('/api/v1/namespaces/culvert-system/pods', 'culvert-system/second');
  const startedAtMs = performance.now();
  standby.child.kill('SIGTERM');
  assert.deepEqual(await standby.exited, [0, null]);
  assert.ok(performance.now() - startedAtMs < 5000);
});

test('the one that serves is killed: the other takes over with all that was applied', async () => {
  await using directory = await temporaryDirectory();
  const [active, standby] = await pair(path.join(directory.path, 'state'));
  await using _active = active;
  await using _standby = standby;
  for (const rule of ['a', 'b', 'c']) await apply(active, rule);
  active.child.kill('SIGKILL');
  await ready(await standby.access());
  assert.deepEqual(await rulesOf(standby), ['a', 'b', 'c']);
  await apply(standby, 'd');
  assert.deepEqual(await rulesOf(standby), ['a', 'b', 'c', 'd']);
});

test('the one that serves is stopped: the other takes over without waiting for the lease to end', async () => {
  await using directory = await temporaryDirectory();
  const [active, standby] = await pair(path.join(directory.path, 'state'));
  await using _active = active;
  await using _standby = standby;
  await apply(active, 'a');
  active.child.kill('SIGTERM');
  assert.deepEqual(await active.exited, [0, null]);
  await ready(await standby.access());
  assert.deepEqual(await rulesOf(standby), ['a']);
});

test('one that stands still for longer than the lease keeps the other out of its directory, and ends when it goes on', async () => {
  await using directory = await temporaryDirectory();
  const [active, standby] = await pair(path.join(directory.path, 'state'));
  await using _active = active;
  await using _standby = standby;
  await apply(active, 'a');
  active.child.kill('SIGSTOP');
  await waitsFor(
    standby,
    new RegExp(`the lease is held, and the state directory is in use by process ${active.child.pid} `),
  );
  assert.doesNotMatch(standby.output(), /"url":/);
  active.child.kill('SIGCONT');
  assert.deepEqual(await active.exited, [1, null]);
  assert.match(active.output(), /this controller has lost the lease.*\[LEASE_LOST\]/);
  await ready(await standby.access());
  assert.deepEqual(await rulesOf(standby), ['a']);
});

test('the one that serves ends when it cannot renew the lease, also while no other is there', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = path.join(directory.path, 'state');
  await using active = await withLease(stateDir);
  await ready(await active.access());
  server.isSilent = true;
  assert.deepEqual(await active.exited, [1, null]);
  assert.match(active.output(), /could not be renewed in time.*\[LEASE_LOST\]/);
  server.isSilent = false;
  await using again = await withLease(stateDir);
  await ready(await again.access());
});

test('a controller with another state than the one that served before does not take its place, and makes no CA', async () => {
  await using directory = await temporaryDirectory();
  const [own, empty] = ['own', 'empty'].map((name) => path.join(directory.path, name));
  assert.ok(own !== undefined && empty !== undefined);
  {
    await using first = await withLease(own);
    await ready(await first.access());
    await using early = await withLease(empty);
    assert.deepEqual(await early.exited, [1, null], 'also while the other serves');
    first.child.kill('SIGKILL');
    await first.exited;
  }
  await using other = await withLease(empty);
  assert.deepEqual(await other.exited, [1, null]);
  assert.match(other.output(), /belongs to the state [-0-9a-f]{36}, and the state directory has no id.*annotate lease/);
  assert.match(other.output(), /\[LEASE_OF_OTHER_STATE\]/);
  assert.ok(!existsSync(path.join(empty, 'ca')));
  // The state that it belongs to counts again.
  await using again = await withLease(own);
  await ready(await again.access());
});

test('a certificate that cannot be renewed while it stands by ends nothing', async () => {
  const said: string[] = [];
  const log = { ...silentLog, warn: (_: object, text: string) => said.push(text) } as unknown as typeof silentLog;
  const server = {
    replaceIdentity: () => {
      throw new Error('no such key');
    },
  };
  const settings = {
    stateDir: '/nowhere',
    advertise: ['localhost'],
    trustDomain: 'culvert.local',
    serverCertificateTtl: 3_600_000,
  };
  await renewIdentity({ settings: settings as unknown as ControllerSettings, server, log });
  assert.deepEqual(said, ['the certificate of a controller that stands by could not be renewed']);
});
