import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Mesh, prepareMesh } from '../lab/mesh.js';
import { patientMs } from '../lab/patience.js';
import { waitUntil } from '../lab/wait-until.js';
import { ask, SteadyTraffic, startEcho } from '../support/mesh/echo-traffic.js';
import { documents, meshOf, segmentationRule } from '../support/mesh/rule-world.js';

let mesh: Mesh;

before(async () => {
  const workloads = ['client', 'server'].map((name) => ({ name, namespace: 'shop', serviceAccount: name }));
  // Only what proves an identity is allowed, so plaintext that arrives at a captured workload is refused.
  const rules = documents(
    meshOf('{ mtls: PERMISSIVE, defaultAction: deny }'),
    segmentationRule('both-ways', '{ action: allow, from: [{ namespace: shop }], to: [{ namespace: shop }] }'),
  );
  mesh = await prepareMesh({ topology: { hosts: [{ name: 'node1', workloads }] }, documents: rules });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

test(
  'two workloads of a host that come at once are never refused by each other: at the first start, and in one apply',
  { timeout: patientMs(180_000) },
  async (t) => {
    const node1 = mesh.agent('node1');
    const [client, server] = [mesh.lab.workload('client'), mesh.lab.workload('server')];
    const toServer = { ip: server.ipv4, port: (await startEcho(server)).port };
    const toClient = { ip: client.ipv4, port: (await startEcho(client)).port };
    const whileThey = async (what: string, come: () => Promise<unknown>): Promise<void> => {
      const startedAtMs = Date.now();
      const traffic = [
        new SteadyTraffic({ from: client, target: toServer, lanes: 4, pauseMs: 2 }),
        new SteadyTraffic({ from: server, target: toClient, lanes: 4, pauseMs: 2 }),
      ];
      await come();
      for (const { meshName } of [client, server]) {
        await node1.waitForRecord(
          `a connection of ${meshName} in the mesh`,
          ({ sourceWorkload, path, reason, startedAt }) =>
            sourceWorkload === meshName && path === 'local' && reason === 'OK' && Date.parse(startedAt) >= startedAtMs,
        );
      }
      const results = await Promise.all(traffic.map((each) => each.stop()));
      t.diagnostic(`${what}: ${results.map(({ attempts }) => attempts).join(' and ')} connections`);
      const failures = results.flatMap((result) => result.failures);
      const refused = node1
        .records()
        .filter(({ reason, startedAt }) => reason !== 'OK' && Date.parse(startedAt) >= startedAtMs);
      assert.deepEqual(
        [failures, refused.map(({ reason, direction, detail }) => `${direction} ${reason} ${detail ?? ''}`)],
        [[], []],
        what,
      );
    };
    await whileThey('at the first start', async () => {
      await node1.fetchToken();
      await node1.start();
      await node1.waitReady();
    });
    const workloads = mesh.lab.resources();
    await mesh.controller.culvert(['delete', '-f', '-'], workloads);
    await waitUntil('both are released', async () => {
      const answers = [await ask(client, toServer), await ask(server, toClient)];
      return answers.every((answer) => answer === 'ok') ? true : undefined;
    });
    await whileThey('in one apply', () =>
      mesh.controller.culvertJson(['apply', '-f', '-', '--wait', '60s'], workloads),
    );
  },
);
