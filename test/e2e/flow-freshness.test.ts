import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import type { FlowsAnswer } from '../../controller/api/api-types.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { patientMs } from '../lab/patience.js';
import { waitUntil } from '../lab/wait-until.js';
import { ask, startEcho } from '../support/mesh/echo-traffic.js';
import { twoHosts } from '../support/mesh/two-hosts.js';

let mesh: Mesh;

before(async () => {
  // A pair is stored in its first six windows, and then in every 30th.
  mesh = await startMesh({ topology: twoHosts, agentArgs: ['--flow-window', '1s'] });
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

/** What node1 has in no stored batch, and of that in no report: the file from which its next start counts what is lost. */
function tally(): { readonly unstored: number; readonly unreported: number } {
  const { stateDir } = mesh.agent('node1');
  const file = readdirSync(stateDir).find((name) => name.startsWith('flows.tally.'));
  assert.ok(file !== undefined, 'the agent has its file');
  const text = readFileSync(path.join(stateDir, file), 'utf8');
  const [, unstored = '', unreported = ''] = text.split(' ');
  return { unstored: Number(unstored), unreported: Number(unreported) };
}

async function connectTimes(count: number, target: { readonly ip: string; readonly port: number }): Promise<void> {
  const before = clientRecords();
  for (let i = 0; i < count; i++) assert.equal(await ask(mesh.lab.workload('client'), target), 'ok');
  await waitUntil('the agent has seen them', () => (clientRecords() >= before + count ? true : undefined));
}

function clientRecords(): number {
  return mesh
    .agent('node1')
    .records()
    .filter(({ sourceWorkload }) => sourceWorkload === 'shop/client').length;
}

test(
  'connections of a pair that is long known are at the controller within 10 s, and within 2 s while records are read',
  { timeout: patientMs(120_000) },
  async () => {
    const server = mesh.lab.workload('server');
    await using echo = await startEcho(server);
    const target = { ip: server.ipv4, port: echo.port };
    let count = 0;
    // Until a connection waits for its batch: no question is asked meanwhile, so the agents report at their own pace.
    await waitUntil(
      'the pair is stored in no window any more',
      async () => {
        await connectTimes(1, target);
        count += 1;
        const stored = await mesh.agent('node1').metric('culvert_flow_records_total');
        await waitUntil('it is reported or stored', () => (tally().unreported === 0 ? true : undefined), 10_000);
        return stored >= 6 && tally().unstored > 0 ? true : undefined;
      },
      60_000,
    );
    await connectTimes(1, target);
    await waitUntil('it is reported', () => (tally().unreported === 0 ? true : undefined), 10_000);
    assert.ok(tally().unstored > 0, 'and not stored');
    assert.equal(await recorded(), count + 1);

    // The question above makes the agents report every second, from their next report on.
    await waitUntil('two reports within two seconds', async () => {
      const { asOfMs } = await flows();
      const next = await waitUntil('the next report', async () => {
        const { asOfMs: later } = await flows();
        return later === asOfMs ? undefined : later;
      });
      return (next ?? 0) - (asOfMs ?? 0) < 2000 ? true : undefined;
    });
    await connectTimes(1, target);
    await show(count + 2, 2000);
    const { asOfMs, behind } = await flows();
    assert.ok(Date.now() - (asOfMs ?? 0) < patientMs(10_000));
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
    await connectTimes(20, target);
    await show(known + 20, 15_000);

    // Away from the controller: what happens now is reported by no one.
    const node1 = mesh.agent('node1');
    await mesh.controller.stop();
    await connectTimes(7, target);
    await node1.stop('SIGKILL');
    await mesh.controller.start();
    await node1.start();
    await node1.waitReady();
    await waitUntil('the loss is known', async () => ((await flows()).lost === 7 ? true : undefined), 45_000);
    assert.equal(await recorded(), known + 20);
    assert.equal(await node1.metric('culvert_flow_connections_not_kept_total', { cause: 'lost' }), 7);
    const { stderr } = await mesh.controller.culvert(['audit']);
    assert.match(stderr, /7 connections in no record: agents were killed/);
    assert.match(stderr, /the records are complete up to \d+s ago/);

    // The agent tells a controller that was killed everything again.
    await connectTimes(3, target);
    await show(known + 23, 15_000);
    await mesh.controller.stop('SIGKILL');
    await mesh.controller.start();
    await show(known + 23, 30_000);
    assert.equal((await flows()).lost, 7);
  },
);
