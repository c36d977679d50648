import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import assert from 'node:assert/strict';
import type { LabServer } from '../../../lab/namespace-sockets.js';
import { errorOf, exchange, greetAndEcho, inbound, outbound } from '../../../support/agent/dataplane-applications.js';
import { DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { patientSignal } from '../../../lab/patience.js';
import { patientMs } from '../../../lab/patience.js';

const port = 8080;
const resetPort = 8081;
const bulkPort = 8082;

describe('the data plane on the lean engine', { timeout: patientMs(120_000) }, () => {
  let mesh: DataplaneMesh;
  const servers: LabServer[] = [];

  before(async () => {
    mesh = await DataplaneMesh.start(
      {
        hosts: [
          { name: 'node1', workloads: [{ name: 'web', namespace: 'shop', serviceAccount: 'web' }] },
          { name: 'node2', workloads: [{ name: 'db', namespace: 'shop', serviceAccount: 'db' }] },
        ],
      },
      { settings: { http2Engine: 'lean' }, workers: 2 },
    );
    const db = mesh.workload('db');
    servers.push(await db.listen({ port }, greetAndEcho));
    servers.push(
      await db.listen({ port: resetPort }, (socket) => {
        socket.on('error', () => {});
        socket.once('data', () => socket.resetAndDestroy());
      }),
    );
    servers.push(
      await db.listen({ port: bulkPort }, (socket) => {
        socket.on('error', () => {});
        socket.pipe(socket);
      }),
    );
  });

  after(async () => {
    for (const server of servers) await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  test('carries connections through tunnels, with one record at each end', async () => {
    const web = mesh.workload('web');
    for (let round = 0; round < 20; round++) {
      const socket = await web.connect({ ip: mesh.workload('db').ipv4, port });
      assert.equal(await exchange(socket, 'ping'), `hello ${web.ipv4}\nping`);
      const out = await mesh.closed('node1', outbound);
      const into = await mesh.closed('node2', inbound);
      assert.deepEqual([out.path, out.reason, into.path, into.reason], ['hbone', 'OK', 'hbone', 'OK']);
      assert.equal(out.traceId, into.traceId);
    }
  });

  test('echoes 16 MiB unchanged', async () => {
    const socket = await mesh.workload('web').connect({ ip: mesh.workload('db').ipv4, port: bulkPort });
    const sent = randomBytes(16 * 1_048_576);
    const received: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => received.push(chunk));
    socket.end(sent);
    await once(socket, 'end', { signal: patientSignal(60_000) });
    assert.ok(Buffer.concat(received).equals(sent));
    await mesh.closed('node1', outbound);
    await mesh.closed('node2', inbound);
  });

  test('passes a reset on as a reset', async () => {
    const socket = await mesh.workload('web').connect({ ip: mesh.workload('db').ipv4, port: resetPort });
    socket.write('x');
    assert.equal(await errorOf(socket), 'ECONNRESET');
    const record = await mesh.closed('node1', outbound);
    assert.equal(record.reason, 'PEER_RESET');
    assert.match(record.detail, /RST_STREAM CONNECT_ERROR/);
    await mesh.closed('node2', inbound);
  });
});
