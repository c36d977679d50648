import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { LabServer } from '../lab/namespace-sockets.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { patientMs } from '../lab/patience.js';
import { waitUntil } from '../lab/wait-until.js';
import { exchange, greetAndEcho, refusal } from '../support/agent/dataplane-applications.js';
import { documents, meshOf } from '../support/mesh/rule-world.js';

const port = 8080;

const tcpRoute = (namespace: string, parent: string, ...backends: readonly string[]): string => `
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: { name: web, namespace: ${namespace} }
spec:
  parentRefs: [{ group: "", kind: Service, name: web, ${parent} }]
  rules: [{ backendRefs: [${backends.map((text) => `{ ${text} }`).join(', ')}] }]
`;

/** TCPRoutes, from `culvert apply` to the figures of agents, with real processes. */
describe('connections that a TCPRoute leads', { timeout: patientMs(180_000) }, () => {
  let mesh: Mesh;
  const servers: LabServer[] = [];

  before(async () => {
    const spec = (name: string, namespace = 'shop') => ({
      name,
      namespace,
      serviceAccount: name,
      labels: { app: name },
    });
    const serviceOf = (name: string) => ({
      name,
      namespace: 'shop',
      ports: [{ port: 80, targetPort: port }],
      selector: { app: name === 'web' ? 'old' : 'new' },
    });
    mesh = await startMesh({
      topology: {
        hosts: [
          { name: 'node1', workloads: [spec('client'), spec('report', 'reports')] },
          { name: 'node2', workloads: [spec('old'), spec('new')] },
        ],
        services: [serviceOf('web'), serviceOf('web-v2')],
      },
    });
    for (const name of ['old', 'new']) servers.push(await mesh.lab.workload(name).listen({ port }, greetAndEcho));
    await mesh.apply(documents(meshOf('{ defaultAction: allow, outbound: allow }')));
  });
  after(async () => {
    for (const server of servers) await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  const vip = () => ({ ip: mesh.lab.vip('web').ipv4, port: 80 });
  const route = 'TCPRoute/shop/web spec.rules[0]';
  const count = (labels: Record<string, string>): Promise<number> =>
    mesh.agent('node1').metric('culvert_connections_routed_total', labels);

  async function served(from = 'client'): Promise<void> {
    assert.match(await exchange(await mesh.lab.workload(from).connect(vip()), 'x'), /x$/);
  }

  /** Five standard deviations: chance here is the agent's own. */
  function isAbout(found: number, times: number, share: number): void {
    assert.ok(Math.abs(found - times * share) <= 5 * Math.sqrt(times * share * (1 - share)), `${found} of ${times}`);
  }

  test('are shared with another service by weight, and the log, the figures and culvert routes say the same', async () => {
    await mesh.apply(
      documents(tcpRoute('shop', 'port: 80', 'name: web, port: 80, weight: 90', 'name: web-v2, port: 80, weight: 10')),
    );
    const times = 200;
    for (let i = 0; i < times; i++) await served();
    const [before, next] = ['shop/web:80', 'shop/web-v2:80'].map((subset) => ({ route, subset, reason: 'OK' }));
    assert.ok(before !== undefined && next !== undefined);
    await waitUntil('all of them counted', async () =>
      (await count(before)) + (await count(next)) === times ? true : undefined,
    );
    const ofNext = await count(next);
    isAbout(ofNext, times, 0.1);
    assert.ok(ofNext > 0);
    const logged = mesh
      .agent('node1')
      .records()
      .filter(({ subset }) => subset === 'shop/web-v2:80');
    assert.equal(logged.length, ofNext);
    for (const record of logged) {
      assert.deepEqual([record.service, record.route, record.destinationWorkload], ['shop/web', route, 'shop/new']);
    }
    const { stdout } = await mesh.controller.culvert(['routes', 'shop/client', 'shop/web']);
    assert.match(
      stdout,
      /TCPRoute\/shop\/web spec\.rules\[0\][^]*shop\/web:80 +90 %[^]*shop\/web-v2:80 +10 % .*shop\/new/,
    );
  });

  test('are refused as many as the weight of an invalid backend says, and the record says why', async () => {
    await mesh.apply(documents(tcpRoute('shop', 'port: 80', 'name: web, port: 80', 'name: gone, port: 80')));
    const times = 60;
    let refusedTimes = 0;
    for (let i = 0; i < times; i++) {
      const answer = await mesh.lab
        .workload('client')
        .connect(vip())
        .then((socket) => exchange(socket, 'x'))
        .catch(() => '');
      if (!answer.endsWith('x')) refusedTimes += 1;
    }
    isAbout(refusedTimes, times, 0.5);
    const labels = { route, subset: 'shop/gone:80', reason: 'NO_ENDPOINT' };
    await waitUntil('all refusals counted', async () => ((await count(labels)) === refusedTimes ? true : undefined));
    const { detail } = await mesh.agent('node1').waitForRecord('a refusal', ({ reason }) => reason === 'NO_ENDPOINT');
    assert.equal(detail, `${route} leads to shop/gone: there is no such service`);
  });

  test('of a consumer route are those of its namespace alone, once a ReferenceGrant lets it name the service', async () => {
    await mesh.delete('TCPRoute', 'web', '-n', 'shop');
    const consumer = tcpRoute('reports', 'namespace: shop', 'name: web-v2, namespace: shop, port: 80');
    await mesh.apply(documents(consumer));
    assert.equal(await refusal(mesh.lab.workload('report'), vip()), 'ECONNRESET');
    const ofConsumer = 'TCPRoute/reports/web spec.rules[0]';
    const { detail } = await mesh.agent('node1').waitForRecord('a refusal', (record) => record.route === ofConsumer);
    assert.match(detail ?? '', /no ReferenceGrant in shop lets a TCPRoute of reports name it$/);
    await mesh.apply(
      documents(`
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: { name: reports, namespace: shop }
spec:
  from: [{ group: gateway.networking.k8s.io, kind: TCPRoute, namespace: reports }]
  to: [{ group: "", kind: Service, name: web-v2 }]
`),
    );
    for (let i = 0; i < 4; i++) {
      await served('report');
      await served('client');
    }
    const ended = (source: string) =>
      mesh
        .agent('node1')
        .records()
        .filter(({ reason, sourceWorkload }) => reason === 'OK' && sourceWorkload === source)
        .slice(-4)
        .map(({ destinationWorkload }) => destinationWorkload);
    await waitUntil('their records', async () => (ended('reports/report').length === 4 ? true : undefined));
    assert.deepEqual(new Set(ended('reports/report')), new Set(['shop/new']));
    assert.deepEqual(new Set(ended('shop/client')), new Set(['shop/old']));
  });
});
