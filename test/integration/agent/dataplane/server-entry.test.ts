import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { closeFd, isTracked, openConntrack } from '../../../../agent/native/addon.js';
import { openNetns } from '../../../../agent/native/netns.js';
import type { ClosedConnection } from '../../../../agent/dataplane/report/closed-connection.js';
import type { LabNode } from '../../../lab/lab-node.js';
import { patientMs } from '../../../lab/patience.js';
import { waitUntil } from '../../../lab/wait-until.js';
import { connectedPair, type ConnectedPair } from '../../../support/agent/connected-pair.js';
import { errorOf } from '../../../support/agent/dataplane-applications.js';
import { DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { localEnd, remoteEnd, setEntrySeconds } from '../../../support/agent/entry-lifetime.js';
import { readSome } from '../../../support/mesh/two-hosts.js';

describe("the entry of connection tracking at the server's side", { timeout: patientMs(180_000) }, () => {
  let mesh: DataplaneMesh;
  const workload = (name: string): LabNode => mesh.workload(name);

  before(async () => {
    mesh = await DataplaneMesh.start(
      {
        hosts: [
          { name: 'node1', workloads: [spec('client'), spec('neighbour')] },
          { name: 'node2', workloads: [spec('server')] },
        ],
      },
      { settings: { http2Engine: 'lean' } },
    );
  });
  after(() => mesh[Symbol.asyncDispose]());

  for (const [path, target, node] of [
    ['in a tunnel', 'server', 'node2'],
    ['on one host', 'neighbour', 'node1'],
  ] as const) {
    test(`is named when it is lost: ${path}`, async () => {
      const pair = await connectedPair(workload('client'), workload(target));
      const { client, server } = pair;
      await exchange(pair);
      let atServer: string | null = null;
      // On a busy machine a probe of the agent may be first, and make the entry again: then the client reads it.
      while (atServer === null) {
        await loseEntry(workload(target), pair);
        server.write('to no reader');
        const ended = errorOf(server);
        // The agent may have seen the server's end, and the client the agent's, before this process reads either.
        const atClient = readSome(client).then(
          () => null,
          () => ended,
        );
        await setEntrySeconds(workload(target), 432_000);
        atServer = await Promise.race([atClient, ended]);
        void ended.catch(() => undefined);
      }
      assert.equal(atServer, 'ECONNRESET');
      client.write('our packet, which makes the entry again');
      assert.equal((await recordOf(node, pair)).reason, 'CAPTURE_LOST');
    });

    test(`is not named when the server resets the connection: ${path}`, async () => {
      const pair = await connectedPair(workload('client'), workload(target));
      const { client, server } = pair;
      await exchange(pair);
      server.resetAndDestroy();
      assert.equal((await recordOf(node, pair)).reason, 'PEER_RESET');
      client.destroy();
    });

    test(`is not named when it was made again before the server resets the connection: ${path}`, async () => {
      const pair = await connectedPair(workload('client'), workload(target));
      const { client, server } = pair;
      await exchange(pair);
      await loseEntry(workload(target), pair);
      await setEntrySeconds(workload(target), 432_000);
      await exchange(pair);
      server.resetAndDestroy();
      assert.equal((await recordOf(node, pair)).reason, 'PEER_RESET');
      client.destroy();
    });
  }

  /** The client speaks first, so that it is the agent's packet that an answer follows. */
  async function exchange({ client, server }: ConnectedPair): Promise<void> {
    client.write('question');
    assert.equal(String(await readSome(server)), 'question');
    server.write('answer');
    assert.equal(String(await readSome(client)), 'answer');
  }

  /** Resolves the moment that the entry has gone: the agent's next probe would make it again. */
  async function loseEntry(at: LabNode, pair: ConnectedPair): Promise<void> {
    const { server } = pair;
    const netns = openNetns(at.netnsPath);
    const conntrackFd = openConntrack({ netnsFd: netns.fd });
    const ends = { conntrackFd, server: localEnd(server), client: remoteEnd(server) };
    try {
      await setEntrySeconds(at, 1);
      await exchange(pair);
      assert.equal(isTracked(ends), true, 'there is an entry');
      await waitUntil('the entry is gone', () => (isTracked(ends) ? undefined : true));
    } finally {
      closeFd(conntrackFd);
      closeSync(netns.fd);
    }
  }

  function recordOf(node: string, { clientPort: port }: ConnectedPair): Promise<ClosedConnection> {
    return waitUntil(
      `the record of ${node}`,
      () =>
        mesh
          .unclaimed(node)
          .find(
            ({ source, direction }) => source.address?.port === port && (node === 'node1' || direction === 'inbound'),
          ),
      patientMs(60_000),
    );
  }
});

function spec(name: string) {
  return { name, namespace: 'shop', serviceAccount: name };
}
