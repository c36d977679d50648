import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { waitUntil } from '../lab/wait-until.js';
import { EchoMesh } from '../support/mesh/echo-mesh.js';
import { ask, HeldConnection, SteadyTraffic } from '../support/mesh/echo-traffic.js';
import { waitForLog } from '../support/mesh/log-lines.js';
import { segmentationRule } from '../support/mesh/rule-world.js';
import { patientMs } from '../lab/patience.js';

let mesh: EchoMesh;

before(async () => {
  mesh = await EchoMesh.start({ agentArgs: ['--drain-timeout', '2s'] });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

const denial = (name: string, serviceAccount: string): string =>
  segmentationRule(
    name,
    `{ tier: team, priority: 10, action: deny, from: [{ serviceAccount: shop/${serviceAccount} }], reason: tested here }`,
  );

type Ready = { readonly degraded: readonly { readonly name: string }[] };

test(
  'an agent starts from disk while controller and NATS are down, enforces, and takes the next revision when they are back',
  { timeout: patientMs(90_000) },
  async () => {
    const [node1, node2] = [mesh.agent('node1'), mesh.agent('node2')];
    const { client } = mesh;
    const neighbour = mesh.lab.workload('neighbour');
    const target = mesh.toServer;
    const revision = await mesh.apply(denial('no-neighbour', 'neighbour'));
    // What it shall start from. The other is stopped, and writes it then.
    await node1.waitForSavedState(revision);
    await mesh.controller.stop('SIGKILL');
    await waitUntil(
      'both agents notice',
      async () => {
        const connected = await Promise.all([node1, node2].map((agent) => agent.metric('culvert_nats_connected')));
        return connected.every((value) => value === 0) ? true : undefined;
      },
      20_000,
    );
    const held = await HeldConnection.open(client, target);
    await using traffic = new SteadyTraffic({ from: client, target });

    assert.deepEqual(await node2.stop('SIGTERM'), { code: 0, signal: null });
    await waitUntil('the drain of its agent has ended the connection', () => held.ended ?? undefined);
    await traffic.stop();
    await node2.start();
    await node2.waitReady();
    await waitForLog(node2.logFile, 'serving from the last good state', { seen: 0, deadlineMs: 20_000 });
    const { readiness } = (await node2.admin('/dump')) as { readiness: Ready };
    assert.ok(
      readiness.degraded.some(({ name }) => name === 'nats'),
      'it says that NATS is away',
    );
    assert.equal(await node2.metric('culvert_enforced_revision'), revision);

    assert.equal(await ask(client, target), 'ok');
    await node1.stop('SIGKILL');
    await node1.start();
    await node1.waitReady();
    assert.equal(await ask(client, target), 'ok');
    assert.equal(await ask(neighbour, target), 'ECONNRESET');
    const denied = await node1.waitForRecord(
      'the denial',
      (line) => line.sourceWorkload === 'shop/neighbour' && line.revision === revision,
    );
    assert.deepEqual([denied.reason, denied.rule], ['POLICY_DENY', 'SegmentationRule/no-neighbour']);
    const labels = { reason: 'POLICY_DENY', rule: 'SegmentationRule/no-neighbour', source_workload: 'shop/neighbour' };
    await waitUntil('the denial is counted', async () =>
      (await node1.metric('culvert_connections_denied_total', labels)) === 1 ? true : undefined,
    );

    await using meanwhile = new SteadyTraffic({ from: client, target });
    await mesh.controller.start();
    await waitUntil(
      'both agents are connected again',
      async () => {
        const connected = await Promise.all([node1, node2].map((agent) => agent.metric('culvert_nats_connected')));
        return connected.every((value) => value === 1) ? true : undefined;
      },
      30_000,
    );
    const { attempts, failures } = await meanwhile.stop();
    assert.deepEqual(failures, [], `of ${attempts} connections while the controller came back`);
    const next = await mesh.apply(denial('no-client', 'client'));
    assert.ok(next > revision);
    assert.equal(await ask(client, target), 'ECONNRESET');
    assert.equal(await node1.metric('culvert_rules_alarms_total'), 0);
    assert.equal(await node2.metric('culvert_rules_alarms_total'), 0);
  },
);
