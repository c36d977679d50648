import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as silenceOf } from 'node:timers/promises';
import type { LabNode } from '../../../lab/lab-node.js';
import { patientMs } from '../../../lab/patience.js';
import { connectedPair } from '../../../support/agent/connected-pair.js';
import type { DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { setEntrySeconds, waitForProbes, waitForServerProbes } from '../../../support/agent/entry-lifetime.js';
import { startPathMesh, testedPaths } from '../../../support/agent/path-mesh.js';
import { readSome, readToEnd } from '../../../support/mesh/two-hosts.js';

/** Every entry of connection tracking in the workloads goes after this time without a packet. */
const entrySeconds = 9;
/** What the test is about: nothing moves for longer than an entry lasts. */
const silenceMs = 16_000;

describe('a connection on which nothing moves', { concurrency: true, timeout: patientMs(180_000) }, () => {
  let mesh: DataplaneMesh;
  const workload = (name: string): LabNode => mesh.workload(name);

  before(async () => {
    mesh = await startPathMesh();
    // As a host may be set at any time: the agent follows.
    const pairs = await Promise.all(
      ['neighbour', 'server'].map(async (to) => ({ to, ...(await connectedPair(workload('client'), workload(to))) })),
    );
    for (const name of ['client', 'neighbour', 'server']) await setEntrySeconds(workload(name), entrySeconds);
    // It looks at one namespace after the other.
    for (const { to, client, server } of pairs) {
      await waitForProbes(workload('client'), client, entrySeconds / 3);
      await waitForServerProbes(workload(to), server, entrySeconds / 3);
      client.destroy();
      server.destroy();
    }
  });
  after(() => mesh[Symbol.asyncDispose]());

  for (const { name, ends } of testedPaths) {
    const connect = (): ReturnType<typeof connectedPair> => {
      const { from, to } = ends(mesh);
      return connectedPair(from, to);
    };
    test(`brings a late answer to a client that closed its half, through ${name}`, async () => {
      const { client, server } = await connect();
      client.end('question');
      assert.equal(String(await readToEnd(server)), 'question');
      await silenceOf(silenceMs);
      server.end('late answer');
      assert.equal(String(await readToEnd(client)), 'late answer');
    });

    test(`brings a late upload to a server that closed its half, through ${name}`, async () => {
      const { client, server } = await connect();
      server.end('hello');
      assert.equal(String(await readToEnd(client)), 'hello');
      await silenceOf(silenceMs);
      client.end('late upload');
      assert.equal(String(await readToEnd(server)), 'late upload');
    });

    test(`goes on in both directions when neither closed its half, through ${name}`, async () => {
      const { client, server } = await connect();
      await silenceOf(silenceMs);
      client.write('ping');
      assert.equal(String(await readSome(server)), 'ping');
      server.end('pong');
      assert.equal(String(await readToEnd(client)), 'pong');
      client.end();
    });
  }

  test('keeps what waits for a client that closed its half and takes no bytes', async () => {
    const { client, server } = await connectedPair(workload('client'), workload('server'));
    client.end('question');
    await readToEnd(server);
    const answer = Buffer.alloc(30_000_000, 'answer ');
    server.end(answer);
    // Window probes double their distance: their pause is longer than an entry lasts after about as long.
    await silenceOf(2 * silenceMs);
    assert.ok((await readToEnd(client)).equals(answer));
  });
});
