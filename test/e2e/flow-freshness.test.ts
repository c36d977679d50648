import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { FlowsAnswer } from '../../controller/api/api-types.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { patientMs } from '../lab/patience.js';
import { waitUntil } from '../lab/wait-until.js';
import { ask, startEcho } from '../support/mesh/echo-traffic.js';
import { twoHosts } from '../support/mesh/two-hosts.js';

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

async function flows(): Promise<FlowsAnswer> {
  return (await mesh.controller.api('/v1/flows?namespace=shop')) as FlowsAnswer;
}

/** Connections from the client to the server, as node1 reported them. */
async function recorded(): Promise<number> {
  const { flows: records } = await flows();
  return records
    .filter(({ node, source }) => node === 'node1' && source.workload === 'shop/client')
    .reduce((sum, { connections }) => sum + connections, 0);
}

const show = (count: number, withinMs: number): Promise<true> =>
  waitUntil(`${count} connections are known`, async () => ((await recorded()) === count ? true : undefined), withinMs);

test(
  'connections of a pair that is long known are at the controller within 10 s, and within 2 s while records are read',
  { timeout: patientMs(180_000) },
  async () => {
    const server = mesh.lab.workload('server');
    await using echo = await startEcho(server);
    const target = { ip: server.ipv4, port: echo.port };
    let count = 0;
    const connect = async (): Promise<void> => {
      assert.equal(await ask(mesh.lab.workload('client'), target), 'ok');
      count += 1;
    };
    // A pair is written to the stream in its first six windows, and then every five minutes.
    for (let window = 0; window < 8; window++) {
      await connect();
      await show(count, 15_000);
      await new Promise((resolve) => setTimeout(resolve, 10_000));
    }
    // Nothing is asked for 16 s, so the agents report at their own pace; then one question after 10 s.
    await new Promise((resolve) => setTimeout(resolve, 16_000));
    await connect();
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    assert.equal(await recorded(), count);
    await show(count, 1000);
    // The question above made the agents report every second.
    await new Promise((resolve) => setTimeout(resolve, 5000));
    await connect();
    await show(count, 2000);
    const { asOfMs, behind } = await flows();
    assert.ok(Date.now() - (asOfMs ?? 0) < 10_000);
    assert.deepEqual(behind, []);
  },
);

test(
  'what an agent had reported survives its SIGKILL and a restart of the controller, and what it had not is counted',
  { timeout: patientMs(120_000) },
  async () => {
    const server = mesh.lab.workload('server');
    await using echo = await startEcho(server);
    const target = { ip: server.ipv4, port: echo.port };
    const known = await recorded();
    for (let i = 0; i < 20; i++) assert.equal(await ask(mesh.lab.workload('client'), target), 'ok');
    await show(known + 20, 15_000);

    // Away from the controller: what happens now is reported by no one.
    const node1 = mesh.agent('node1');
    await mesh.controller.stop();
    for (let i = 0; i < 7; i++) assert.equal(await ask(mesh.lab.workload('client'), target), 'ok');
    await waitUntil('the agent has seen them', async () => {
      const records = node1.records().filter(({ sourceWorkload }) => sourceWorkload === 'shop/client');
      return records.length >= known + 27 ? true : undefined;
    });
    await node1.stop('SIGKILL');
    await mesh.controller.start();
    await node1.start();
    await node1.waitReady();
    await waitUntil('the loss is known', async () => ((await flows()).lost === 27 - 20 ? true : undefined), 45_000);
    assert.equal(await node1.metric('culvert_flow_connections_not_kept_total', { cause: 'lost' }), 7);
    const { stderr } = await mesh.controller.culvert(['audit']);
    assert.match(stderr, /7 connections are in no record: agents were killed/);
    assert.match(stderr, /the records are complete up to \d+s ago/);
  },
);
