import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LabWorkload } from '../lab/lab-node.js';
import { startMesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { loggedIn, waitForLog } from '../support/mesh/log-lines.js';
import { ask, startEcho } from '../support/mesh/echo-traffic.js';
import { ReplacedWorkload } from '../support/mesh/replaced-workload.js';
import { twoHosts } from '../support/mesh/two-hosts.js';
import { patientMs } from '../lab/patience.js';

test(
  'a namespace that is replaced under its name is released and captured again, and nothing keeps the old one alive',
  { timeout: patientMs(90_000) },
  async () => {
    await using mesh = await startMesh({ topology: twoHosts });
    const node1 = mesh.agent('node1');
    // This process must not open a socket in the neighbour before it is replaced: that would hold the old namespace.
    const [neighbour, server, client] = ['neighbour', 'server', 'client'].map((name) => mesh.lab.workload(name)) as [
      LabWorkload,
      LabWorkload,
      LabWorkload,
    ];
    const echo = await startEcho(server);
    const toServer = { ip: server.ipv4, port: echo.port };
    const say = ['socat', '-t', '2', '-', `TCP:${toServer.ip}:${toServer.port}`];
    assert.equal((await neighbour.exec(say, { input: 'through a tunnel' })).stdout, 'through a tunnel');
    const open = await neighbour.spawn(['socat', '-u', `TCP:${toServer.ip}:${toServer.port}`, '-']);
    await waitUntil('a connection is open there', async () =>
      JSON.stringify(await node1.admin('/connections')).includes('shop/neighbour') ? true : undefined,
    );
    const replaced = new ReplacedWorkload(mesh, neighbour);
    await replaced.placeCanary();

    // The application dies with its container; the agent still has its end, and an idle tunnel, in the namespace.
    await open.stop('SIGKILL');
    await replaced.remove();
    const gone = await waitForLog(node1.logFile, 'workload released', { deadlineMs: 15_000 });
    assert.deepEqual([gone['workload'], gone['why']], ['shop/neighbour', 'its namespace no longer exists']);
    await waitUntil('nothing holds the old namespace', async () => ((await replaced.hasCanary()) ? undefined : true));
    const { readiness } = (await node1.admin('/dump')) as {
      readiness: { pending: { name: string; detail: string }[] };
    };
    assert.ok(
      readiness.pending.some(({ name }) => name === 'capture/shop/neighbour'),
      JSON.stringify(readiness),
    );
    assert.equal(await node1.metric('culvert_workloads', { state: 'captured' }), 1);
    assert.equal(await ask(client, toServer), 'ok', 'the other workload is served');

    await replaced.create();
    await node1.waitReady();
    const since = Date.now();
    assert.equal(await ask(neighbour, toServer), 'ok');
    const record = await node1.waitForRecord(
      'captured again',
      (line) => line.sourceWorkload === 'shop/neighbour' && Date.parse(line.startedAt) >= since - 5,
    );
    assert.deepEqual([record.reason, record.path], ['OK', 'hbone']);
    const back = await startEcho(neighbour);
    assert.equal(await ask(server, { ip: neighbour.ipv6, port: back.port }), 'ok');
    assert.equal(await node1.metric('culvert_workloads', { state: 'captured' }), 2);
    assert.deepEqual(loggedIn(node1.logFile, 'capture could not be removed'), []);
  },
);

test('a namespace that is replaced in one step is also captured again', { timeout: patientMs(90_000) }, async () => {
  await using mesh = await startMesh({ topology: twoHosts });
  const node1 = mesh.agent('node1');
  const [neighbour, server] = ['neighbour', 'server'].map((name) => mesh.lab.workload(name)) as [
    LabWorkload,
    LabWorkload,
  ];
  const echo = await startEcho(server);
  const replaced = new ReplacedWorkload(mesh, neighbour);
  await replaced.placeCanary();
  await replaced.remove();
  await replaced.create();
  const gone = await waitForLog(node1.logFile, 'workload released', { deadlineMs: 15_000 });
  assert.match(String(gone['why']), /its namespace (no longer exists|was replaced|is gone)/);
  await waitUntil('nothing holds the old namespace', async () => ((await replaced.hasCanary()) ? undefined : true));
  await waitForLog(node1.logFile, 'workload captured', { seen: 2 });
  await node1.waitReady();
  assert.equal(await ask(neighbour, { ip: server.ipv4, port: echo.port }), 'ok');
  const record = await node1.waitForRecord('captured again', (line) => line.sourceWorkload === 'shop/neighbour');
  assert.deepEqual([record.reason, record.path], ['OK', 'hbone']);
});
