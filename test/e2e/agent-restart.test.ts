import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { waitUntil } from '../lab/wait-until.js';
import { EchoMesh } from '../support/mesh/echo-mesh.js';
import { ask, HeldConnection, SteadyTraffic } from '../support/mesh/echo-traffic.js';
import { loggedIn } from '../support/mesh/log-lines.js';
import { patientMs } from '../lab/patience.js';
import { machineFactor } from '../support/machine-factor.js';

/** What must never be readable between the hosts. */
const secret = 'culvert-e2e-secret-that-only-tls-may-carry';

let mesh: EchoMesh;

before(async () => {
  mesh = await EchoMesh.start({ agentArgs: ['--drain-timeout', '3s'] });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

test(
  'a killed agent lets nothing pass until it is back, and comes back without a token',
  { timeout: patientMs(90_000) },
  async () => {
    const [node1, node2] = [mesh.agent('node1'), mesh.agent('node2')];
    await using wire = await mesh.lab.capture({ at: node1.node, filter: 'tcp' });
    await using traffic = new SteadyTraffic({ from: mesh.client, target: mesh.toServer, text: secret });
    const out = await HeldConnection.open(mesh.client, mesh.toServer);
    const back = await HeldConnection.open(mesh.server, mesh.toClient);
    const outside = mesh.lab.host('outside');
    assert.equal(await ask(outside, mesh.toClient), 'ok', 'the mesh is PERMISSIVE');

    await node1.stop('SIGKILL');
    const endings = await Promise.all([out.ending(), back.ending()]);
    // The kernel ends the sockets of a dead process; the other agent knows that it was not the application's end.
    assert.equal(endings[1], 'ECONNRESET');
    assert.equal(await ask(mesh.client, mesh.toServer, secret), 'ECONNREFUSED');
    assert.equal(await ask(mesh.client, { ip: mesh.server.ipv6, port: mesh.toServer.port }, secret), 'ECONNREFUSED');
    assert.equal(
      await ask(mesh.client, { ip: outside.ipv4, port: 9 }, secret),
      'ECONNREFUSED',
      'nor does it leave the mesh',
    );
    assert.equal(await ask(outside, mesh.toClient, secret), 'ECONNREFUSED', 'nor come in from outside');
    assert.equal(await ask(mesh.server, mesh.toClient, secret), 'ECONNRESET', 'the other agent refuses for it');
    const refused = await node2.waitForRecord(
      'the refusal',
      (line) =>
        line.requested === `${mesh.client.ipv4}:${mesh.toClient.port}` &&
        line.reason !== 'OK' &&
        line.connectMs === undefined,
    );
    assert.deepEqual([refused.reason, refused.direction, refused.path], ['NOT_MESHED_PEER', 'outbound', 'none']);
    const cut = await node2.waitForRecord(
      'the cut',
      (line) => line.sourceWorkload === 'shop/client' && line.reason !== 'OK',
    );
    assert.equal(cut.direction, 'inbound');
    assert.equal(cut.reason, 'CLIENT_RESET');
    assert.match(cut.detail ?? '', /^tunnel from .* ended: /);

    rmSync(path.join(mesh.lab.tempDir, 'token-node1'));
    await node1.start();
    await node1.waitReady();
    assert.equal(await ask(mesh.client, mesh.toServer, secret), 'ok');
    assert.equal(await ask(mesh.server, mesh.toClient, secret), 'ok', 'the other agent has made a new tunnel');
    const { attempts, failures } = await traffic.stop();
    assert.ok(failures.length > 0 && failures.length < attempts, `${failures.length} of ${attempts} failed`);
    const seen = await wire.stop();
    assert.equal(seen.droppedByKernel, 0);
    assert.equal(seen.contains(secret), false, 'never readable between the hosts');
    assert.equal(await node1.metric('culvert_workloads', { state: 'captured' }), 2);
    const after = await node1.waitForRecord(
      'traffic of the new run',
      (line) => line.reason === 'OK' && line.path === 'hbone',
    );
    assert.match(after.sourceIdentity ?? '', /\/sa\/client$/);
  },
);

test(
  'a stop lets open connections finish, refuses new ones and ends with 0',
  { timeout: patientMs(60_000) },
  async () => {
    const node1 = mesh.agent('node1');
    const out = await HeldConnection.open(mesh.client, mesh.toServer);
    const back = await HeldConnection.open(mesh.server, mesh.toClient);
    const startedAt = Date.now();
    const stopped = node1.stop('SIGTERM');
    await waitUntil('new connections are refused', async () =>
      (await ask(mesh.client, mesh.toServer)) === 'ECONNREFUSED' ? true : undefined,
    );
    await Promise.all([out.exchange(), back.exchange()]);
    assert.deepEqual(await Promise.all([out.close(), back.close()]), ['end', 'end']);
    assert.deepEqual(await stopped, { code: 0, signal: null });
    assert.ok(Date.now() - startedAt < 3000 * (await machineFactor()), 'it did not wait for the drain timeout');
    assert.equal(loggedIn(node1.logFile, 'agent stopped').length, 1);
    const record = await node1.waitForRecord(
      'the drained connection',
      (line) => line.direction === 'outbound' && out.isRecordedIn(line),
    );
    assert.equal(record.reason, 'OK');
    await node1.start();
    await node1.waitReady();
    assert.equal(await ask(mesh.client, mesh.toServer), 'ok');
  },
);

test(
  'a connection that does not finish in time is cut as DRAIN, and reset at the other end',
  { timeout: patientMs(60_000) },
  async () => {
    const [node1, node2] = [mesh.agent('node1'), mesh.agent('node2')];
    const out = await HeldConnection.open(mesh.client, mesh.toServer);
    const stopped = node1.stop('SIGTERM');
    assert.equal(await out.ending(), 'ECONNRESET');
    assert.deepEqual(await stopped, { code: 0, signal: null });
    const record = await node1.waitForRecord(
      'the cut',
      (line) => line.direction === 'outbound' && out.isRecordedIn(line),
    );
    assert.equal(record.reason, 'DRAIN');
    const other = await node2.waitForRecord('the cut', (line) => line.traceId === record.traceId);
    assert.equal(other.reason, 'CLIENT_RESET');
    await node1.start();
    await node1.waitReady();
    assert.equal(await ask(mesh.client, mesh.toServer), 'ok');
  },
);
