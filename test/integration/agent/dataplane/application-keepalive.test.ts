import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { setTimeout as silenceOf } from 'node:timers/promises';
import type { ClosedConnection } from '../../../../agent/dataplane/report/closed-connection.js';
import { capturePorts } from '../../../../agent/ports.js';
import type { LabNode } from '../../../lab/lab-node.js';
import { patientMs } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { connectedPair } from '../../../support/agent/connected-pair.js';
import { errorOf } from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { readSome, readToEnd } from '../../../support/mesh/two-hosts.js';

/** With this, Node sends the first probe after 2 s and gives up after 10 more, one a second. */
const briskMs = 2000;
/** The first after 20 s; given up 10 s later. */
const calmMs = 20_000;
/** Longer than the brisk one lasts, and than the agent needs to see that the far side is gone; less than the calm one. */
const outageMs = 16_000;

/** At rest about 20 s: until the agent looks, until it sees that the far side is gone, and then the application's own time. */
const noticedWithinMs = 60_000;

/** A second idle time of the calm keepalive would end after 50 s, the first one after 30. */
const onceAtMostMs = 45_000;

describe('a far side that stops answering', { concurrency: true, timeout: patientMs(180_000) }, () => {
  let mesh: DataplaneMesh;
  const outside = (): LabNode => mesh.lab.host('outside');

  before(async () => {
    const spec = (name: string) => ({ name, namespace: 'shop', serviceAccount: name });
    mesh = await DataplaneMesh.start(
      {
        hosts: [
          { name: 'node1', workloads: [spec('server')] },
          { name: 'node2', workloads: [spec('peer')] },
        ],
        externalHosts: ['outside'],
      },
      {
        snapshot: allowAll({ mesh: { ...allowAll().mesh, mtls: 'PERMISSIVE' } }),
        // The tunnel itself lives longer than the test.
        settings: { tunnelPingTimeoutMs: 120_000 },
      },
    );
  });
  after(() => mesh[Symbol.asyncDispose]());

  test('is noticed by a client that probes', async () => {
    const { client, server } = await connectedPair(mesh.workload('server'), outside());
    const port = client.localPort;
    client.setKeepAlive(true, briskMs);
    await silence(server.localPort);
    assert.equal(await errorOf(client, noticedWithinMs), 'ETIMEDOUT');
    const record = await mesh.closed('node1', recordFrom(port));
    assert.deepEqual([record.reason, record.detail], ['KEEPALIVE_TIMEOUT', 'the destination does not answer']);
  });

  test('is noticed within the idle time of a client, which does not begin once more', async () => {
    const { client, server } = await connectedPair(mesh.workload('server'), outside());
    client.setKeepAlive(true, calmMs);
    const sinceMs = performance.now();
    await silence(server.localPort);
    client.resume();
    const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException];
    assert.equal(error.code, 'ETIMEDOUT');
    const tookMs = performance.now() - sinceMs;
    assert.ok(tookMs < onceAtMostMs, `${Math.round(tookMs)} ms`);
  });

  test('is noticed by a client that probes after the server has ended its half', async () => {
    const { client, server } = await connectedPair(mesh.workload('server'), outside());
    const port = client.localPort;
    client.write('question');
    await readSome(server);
    server.end('answer');
    await readToEnd(client);
    client.setKeepAlive(true, briskMs);
    await silence(server.localPort);
    // Node no longer reads after the end of the server's direction, so only the record tells it.
    const record = await waitUntil('the record', () => mesh.unclaimed('node1').find(recordFrom(port)), 60_000);
    assert.deepEqual([record.reason, record.detail], ['KEEPALIVE_TIMEOUT', 'the destination does not answer']);
    client.destroy();
    server.destroy();
  });

  test('is noticed by a server that probes', async () => {
    const { client, server } = await connectedPair(outside(), mesh.workload('server'));
    const port = client.localPort;
    server.setKeepAlive(true, briskMs);
    await silence(port);
    assert.equal(await errorOf(server, noticedWithinMs), 'ETIMEDOUT');
    const record = await mesh.closed('node1', recordFrom(port));
    assert.deepEqual([record.reason, record.detail], ['KEEPALIVE_TIMEOUT', 'the source does not answer']);
  });

  test('is noticed by a client that probes through a tunnel', async () => {
    const { client, server } = await connectedPair(mesh.workload('server'), mesh.workload('peer'));
    const port = client.localPort;
    // The server has accepted, but the answer to the CONNECT may still be under way: its bytes come behind that.
    server.write('here');
    await readSome(client);
    client.setKeepAlive(true, briskMs);
    await drop('-I', mesh.workload('peer'), capturePorts.inboundTunnel);
    assert.equal(await errorOf(client, noticedWithinMs), 'ETIMEDOUT');
    const record = await mesh.closed('node1', recordFrom(port));
    assert.deepEqual([record.reason, record.detail], ['KEEPALIVE_TIMEOUT', 'the destination does not answer']);
  });

  test('costs nothing when it is back before the client gives up', async () => {
    const { client, server } = await connectedPair(mesh.workload('server'), outside());
    client.setKeepAlive(true, calmMs);
    await goesOnAfterOutage(client, server);
  });

  test('costs nothing when the client does not probe', async () => {
    const { client, server } = await connectedPair(mesh.workload('server'), outside());
    await goesOnAfterOutage(client, server);
  });

  async function goesOnAfterOutage(client: Socket, server: Socket): Promise<void> {
    const { localPort } = server;
    await silence(localPort);
    await silenceOf(outageMs);
    await drop('-D', outside(), localPort);
    client.write('still here');
    assert.equal(String(await readSome(server)), 'still here');
    server.write('so am I');
    assert.equal(String(await readSome(client)), 'so am I');
  }

  const silence = (port: number | undefined): Promise<void> => drop('-I', outside(), port);
});

function recordFrom(port: number | undefined): (record: ClosedConnection) => boolean {
  return ({ source }) => source.address?.port === port;
}

/**
 * Nothing of a connection reaches the node any more, and nothing leaves it: the kernel may still owe the other side an
 * acknowledgement, and what it sends again would be a sign of life.
 */
async function drop(verb: '-I' | '-D', node: LabNode, port: number | undefined): Promise<void> {
  for (const [chain, side] of [
    ['INPUT', '--dport'],
    ['OUTPUT', '--sport'],
  ] as const) {
    await node.check(['iptables', '-w', '5', verb, chain, '-p', 'tcp', side, String(port), '-j', 'DROP']);
  }
}
