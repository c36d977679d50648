import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { ClosedConnection } from '../../../../agent/dataplane/report/closed-connection.js';
import type { LabNode } from '../../../lab/lab-node.js';
import { patientMs } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { connectedPair, type ConnectedPair } from '../../../support/agent/connected-pair.js';
import { errorOf } from '../../../support/agent/dataplane-applications.js';
import { DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { setEntrySeconds, waitForProbes } from '../../../support/agent/entry-lifetime.js';
import { readToEnd } from '../../../support/mesh/two-hosts.js';

/** The agent looks at silent connections within three rounds of 5 s; a loaded machine takes longer. */
const noticedMs = 60_000;

/** A third of the kernel's `nf_conntrack_tcp_timeout_close_wait`. While both are open, the first probe is due after hours. */
const halfClosedSeconds = 20;

describe('an end that the kernel tells neither side', { concurrency: true, timeout: patientMs(180_000) }, () => {
  let mesh: DataplaneMesh;
  const workload = (name: string): LabNode => mesh.workload(name);

  before(async () => {
    mesh = await DataplaneMesh.start(
      {
        hosts: [
          { name: 'node1', workloads: [spec('client'), spec('forgotten')] },
          { name: 'node2', workloads: [spec('server')] },
        ],
      },
      { settings: { http2Engine: 'lean' } },
    );
    await workload('client').check(['sysctl', '-qw', 'net.ipv4.tcp_fin_timeout=3']);
  });
  after(() => mesh[Symbol.asyncDispose]());

  test('is noticed when the entry of a captured connection has gone, and both applications are told', async () => {
    const pair = await connectedPair(workload('forgotten'), workload('server'));
    const { client, server } = pair;
    const [atClient, atServer] = [errorOf(client), errorOf(server)];
    // Less than the probes can keep.
    await setEntrySeconds(workload('forgotten'), 1);
    client.write('the last packet of a long-lived entry');
    assert.equal((await recordOf('node1', pair)).reason, 'CAPTURE_LOST');
    assert.equal(await atClient, 'ECONNABORTED');
    assert.equal(await atServer, 'ECONNRESET');
  });

  test('is noticed when the client resets while the server takes nothing', async () => {
    const pair = await connectedPair(workload('client'), workload('server'));
    const { client, server } = pair;
    const record = recordOf('node1', pair);
    await fill(client);
    client.resetAndDestroy();
    assert.equal((await record).reason, 'CLIENT_RESET');
    server.destroy();
  });

  test('is noticed when the client has ended and the server never closes its half', async () => {
    const pair = await connectedPair(workload('client'), workload('server'));
    const { client, server } = pair;
    const records = [recordOf('node1', pair), recordOf('node2', pair)] as const;
    client.destroy();
    await readToEnd(server);
    assert.equal((await records[0]).reason, 'CLIENT_RESET');
    // Node no longer reads after the end of the client's direction, so only a write meets the reset.
    await records[1];
    server.write('too late');
    assert.match(await errorOf(server), /^(?:EPIPE|ECONNRESET)$/);
  });

  test('is probed for as often as its entry needs once one direction is closed', async () => {
    const pair = await connectedPair(workload('client'), workload('server'));
    const { client, server } = pair;
    client.end();
    await readToEnd(server);
    await waitForProbes(workload('client'), client, halfClosedSeconds);
    server.end();
    await readToEnd(client);
  });

  test('does not cut off what a server still takes from a client that has ended', async () => {
    const pair = await connectedPair(workload('client'), workload('server'));
    const { client, server } = pair;
    const record = recordOf('node1', pair);
    server.end();
    await readToEnd(client);
    const upload = await fill(client);
    client.end();
    // Two rounds without a byte: the agent has looked at it.
    await quiet(11_000);
    assert.equal((await readToEnd(server)).length, upload);
    assert.equal((await record).reason, 'OK');
  });

  /** Writes until nothing more is taken; returns how much that was, when all of it has left the process. */
  async function fill(socket: Socket): Promise<number> {
    const chunk = Buffer.alloc(1_000_000, 'x');
    let bytes = 0;
    for (;;) {
      bytes += chunk.length;
      if (!socket.write(chunk)) {
        const hasDrained = await Promise.race([once(socket, 'drain').then(() => true), quiet(1000)]);
        if (!hasDrained) return bytes;
      }
    }
  }

  async function recordOf(host: string, { clientPort: port }: ConnectedPair): Promise<ClosedConnection> {
    return await waitUntil(
      `the record of a connection from port ${port}`,
      () => mesh.unclaimed(host).find(({ source }) => source.address?.port === port),
      noticedMs,
    );
  }
});

function quiet(ms: number): Promise<false> {
  return new Promise((resolve) => {
    setTimeout(() => resolve(false), ms);
  });
}

function spec(name: string): { name: string; namespace: string; serviceAccount: string } {
  return { name, namespace: 'shop', serviceAccount: name };
}
