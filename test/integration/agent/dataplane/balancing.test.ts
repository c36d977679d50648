import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { after, before, describe, test } from 'node:test';
import type { CompiledDestinationRule } from '../../../../shared/policy/traffic-documents.js';
import { patientMs } from '../../../lab/patience.js';
import type { LabServer } from '../../../lab/namespace-sockets.js';
import { exchange, greetAndEcho, outbound } from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';

const port = 8080;
const endpoints = ['a', 'b', 'c'] as const;

/** Which endpoint real connections go to, as a DestinationRule says. One worker, so that its counts are all of them. */
describe('connections to a service with a DestinationRule', { timeout: patientMs(120_000) }, () => {
  let mesh: DataplaneMesh;
  let revision = 1;
  const servers = new Map<string, LabServer>();

  before(async () => {
    const spec = (name: string, app: string) => ({
      name,
      namespace: 'shop',
      serviceAccount: name,
      labels: { app },
    });
    mesh = await DataplaneMesh.start({
      hosts: [
        { name: 'node1', workloads: [spec('client', 'client'), { ...spec('other', 'client'), namespace: 'billing' }] },
        { name: 'node2', workloads: endpoints.map((name) => spec(name, 'web')) },
      ],
      services: [
        {
          name: 'web',
          namespace: 'shop',
          ports: [
            { port: 80, targetPort: port },
            { port: 81, targetPort: port },
          ],
          selector: { app: 'web' },
        },
      ],
    });
    for (const name of endpoints) servers.set(name, await mesh.workload(name).listen({ port }, greetAndEcho));
  });
  after(async () => {
    for (const server of servers.values()) await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  async function steer(...rules: readonly Partial<CompiledDestinationRule>[]): Promise<void> {
    const destinationRules = rules.map((rule, index) => ({
      namespace: 'shop',
      name: `r${index}`,
      host: 'web.shop.svc.cluster.local',
      policy: {},
      ports: {},
      ...rule,
    }));
    await mesh.apply(allowAll({ revision: ++revision, ...(rules.length === 0 ? {} : { destinationRules }) }));
  }

  /** One connection that ends: to which endpoint it went. */
  async function once(from = 'client', dialled = 80): Promise<string> {
    const socket = await mesh.workload(from).connect({ ip: mesh.lab.vip('web').ipv4, port: dialled });
    assert.match(await exchange(socket, 'x'), /x$/);
    return await endpointOfRecord();
  }

  async function endpointOfRecord(): Promise<string> {
    const { reason, destination, service } = await mesh.closed('node1', outbound);
    assert.deepEqual([reason, service], ['OK', 'shop/web']);
    return destination.workload?.replace('shop/', '') ?? '';
  }

  async function several(times: number, from = 'client', dialled = 80): Promise<string[]> {
    const seen: string[] = [];
    for (let i = 0; i < times; i++) seen.push(await once(from, dialled));
    return seen;
  }

  test('go round without one', async () => {
    await steer();
    const seen = await several(6);
    assert.deepEqual(seen.slice(0, 3).toSorted(), [...endpoints]);
    assert.deepEqual(seen.slice(3), seen.slice(0, 3));
  });

  test('stay with one endpoint by the source, on that port alone, and go on when it is gone', async () => {
    await steer({ policy: { balancing: 'source-ip' }, ports: { '81': { balancing: 'round-robin' } } });
    const [kept = '', ...rest] = await several(5);
    assert.deepEqual(new Set(rest), new Set([kept]));
    assert.deepEqual((await several(3, 'client', 81)).toSorted(), [...endpoints]);
    await servers.get(kept)?.close();
    const next = await several(3);
    assert.equal(new Set(next).size, 1, 'the next in its order');
    assert.notEqual(next[0], kept);
    servers.set(kept, await mesh.workload(kept).listen({ port }, greetAndEcho));
    assert.deepEqual(new Set(await several(2)), new Set([kept]), 'and back');
    mesh.takeUnclaimed('node2');
  });

  test('go where fewer are open', async () => {
    await steer({ policy: { balancing: 'least-connections' } });
    const open: Socket[] = [];
    for (let i = 0; i < 30; i++) {
      const socket = await mesh.workload('client').connect({ ip: mesh.lab.vip('web').ipv4, port: 80 });
      socket.on('error', () => {});
      await new Promise((resolve) => socket.once('data', resolve));
      open.push(socket);
    }
    for (const socket of open) socket.end();
    const seen: string[] = [];
    for (let i = 0; i < 30; i++) seen.push(await endpointOfRecord());
    for (const name of endpoints) {
      const count = seen.filter((each) => each === name).length;
      // In turns each has 10; two random choices of three keep them within a few.
      assert.ok(count >= 6 && count <= 14, `${name}: ${count} of 30`);
    }
  });

  test('find an endpoint that serves while one refuses at once, and do not all go there first', async () => {
    await steer({ policy: { balancing: 'least-connections' } });
    mesh.takeUnclaimed('node2');
    await servers.get('b')?.close();
    const seen = await several(20);
    assert.ok(!seen.includes('b'), seen.join(' '));
    const refused = mesh.takeUnclaimed('node2').filter(({ reason }) => reason === 'CONNECT_REFUSED');
    assert.ok(refused.length <= 4, `${refused.length} of 20 connections tried it`);
    servers.set('b', await mesh.workload('b').listen({ port }, greetAndEcho));
  });

  test('go by the rule of the namespace of the client before that of the service', async () => {
    await steer(
      { policy: { balancing: 'round-robin' } },
      { namespace: 'billing', name: 'own', policy: { balancing: 'source-ip' } },
    );
    assert.equal(new Set(await several(4, 'other')).size, 1);
    assert.equal(new Set(await several(3)).size, 3);
  });

  test('that are open stay where they are when the rule changes', async () => {
    await steer({ policy: { balancing: 'least-connections' } });
    const socket = await mesh.workload('client').connect({ ip: mesh.lab.vip('web').ipv4, port: 80 });
    await new Promise((resolve) => socket.once('data', resolve));
    await steer({ policy: { balancing: 'source-ip' } });
    await steer();
    assert.match(await exchange(socket, 'still'), /still$/);
    await endpointOfRecord();
  });
});
