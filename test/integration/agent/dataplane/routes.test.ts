import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { ClosedConnection } from '../../../../agent/dataplane/report/closed-connection.js';
import type {
  CompiledDestinationRule,
  CompiledVirtualService,
  TrafficRoute,
} from '../../../../shared/policy/traffic-documents.js';
import { patientMs } from '../../../lab/patience.js';
import type { LabServer } from '../../../lab/namespace-sockets.js';
import { exchange, greetAndEcho, outbound, refusal } from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';

const port = 8080;
const host = 'web.shop.svc.cluster.local';
const subset = (version: string) => ({ name: version, labels: { version }, policy: {}, ports: {} });
const rule: CompiledDestinationRule = {
  namespace: 'shop',
  name: 'web',
  host,
  policy: {},
  ports: {},
  subsets: [subset('v1'), subset('v2'), subset('v3')],
};
const all = (name: string | null): TrafficRoute => ({ matches: [], choices: [{ subset: name, weight: 1 }] });

/** Where real connections go that a VirtualService leads to subsets. */
describe('connections that a VirtualService leads', { timeout: patientMs(120_000) }, () => {
  let mesh: DataplaneMesh;
  let revision = 1;
  const servers = new Map<string, LabServer>();
  /** Of the records that the last `several` has read. */
  let routes: ClosedConnection['route'][] = [];

  before(async () => {
    const spec = (name: string, labels: Record<string, string>, namespace = 'shop') => ({
      name,
      namespace,
      serviceAccount: name,
      labels,
    });
    mesh = await DataplaneMesh.start({
      hosts: [
        { name: 'node1', workloads: [spec('client', { app: 'api' }), spec('other', { app: 'batch' }, 'billing')] },
        {
          name: 'node2',
          workloads: [
            spec('a', { app: 'web', version: 'v1' }),
            spec('b', { app: 'web', version: 'v1' }),
            spec('c', { app: 'web', version: 'v2' }),
            spec('stray', { app: 'stray', version: 'v2' }),
          ],
        },
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
    for (const name of ['a', 'b', 'c', 'stray']) {
      servers.set(name, await mesh.workload(name).listen({ port }, greetAndEcho));
    }
  });
  after(async () => {
    for (const server of servers.values()) await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  async function lead(routes: readonly TrafficRoute[], rest: Partial<CompiledVirtualService> = {}): Promise<void> {
    const virtualServices = [{ namespace: 'shop', name: 'web', host, routes, ...rest }];
    await mesh.apply(allowAll({ revision: ++revision, destinationRules: [rule], virtualServices }));
  }

  async function several(times: number, from = 'client', dialled = 80): Promise<string[]> {
    const seen: string[] = [];
    routes = [];
    for (let i = 0; i < times; i++) {
      const socket = await mesh.workload(from).connect({ ip: mesh.lab.vip('web').ipv4, port: dialled });
      assert.match(await exchange(socket, 'x'), /x$/);
      const { reason, destination, service, route } = await mesh.closed('node1', outbound);
      routes.push(route);
      assert.deepEqual([reason, service], ['OK', 'shop/web']);
      seen.push(destination.workload?.replace('shop/', '') ?? '');
    }
    return seen;
  }

  test('go to the subset alone, in turns within it, and to no workload that only has its labels', async () => {
    await lead([all('v1')]);
    assert.deepEqual((await several(4)).toSorted(), ['a', 'a', 'b', 'b']);
    await lead([all('v2')]);
    assert.deepEqual(new Set(await several(4)), new Set(['c']));
  });

  test('are shared by weight', async () => {
    const choices = [
      { subset: 'v1', weight: 75 },
      { subset: 'v2', weight: 25 },
    ];
    await lead([{ matches: [], choices }]);
    const times = 120;
    const seen = await several(times);
    const ofCanary = seen.filter((name) => name === 'c').length;
    // Five standard deviations around a quarter; chance here is the agent's own.
    const tolerance = 5 * Math.sqrt(times * 0.25 * 0.75);
    assert.ok(Math.abs(ofCanary - times / 4) <= tolerance, `${ofCanary} of ${times}`);
  });

  test('go by client and port, the first route that matches', async () => {
    await lead([
      { matches: [{ sourceNamespace: 'billing', sourceLabels: { app: 'batch' } }, { port: 81 }], ...choice('v2') },
      { matches: [{ sourceLabels: { app: 'api' } }], ...choice('v1') },
    ]);
    assert.deepEqual(new Set(await several(3, 'other')), new Set(['c']));
    assert.deepEqual(routes, Array(3).fill(routeTaken(0, 'v2')));
    assert.deepEqual(new Set(await several(3, 'client', 81)), new Set(['c']));
    assert.deepEqual((await several(2)).toSorted(), ['a', 'b']);
    assert.deepEqual(routes, Array(2).fill(routeTaken(1, 'v1')));
    await lead([all(null)]);
    await several(1);
    assert.deepEqual(routes, [routeTaken(0, null)]);
  });

  test('go to all workloads where no route matches, and for clients that the document is not for', async () => {
    await lead([{ matches: [{ port: 9 }], ...choice('v2') }]);
    assert.deepEqual((await several(3)).toSorted(), ['a', 'b', 'c']);
    assert.deepEqual(routes, Array(3).fill(undefined));
    await lead([all('v2')], { exportTo: ['shop'] });
    assert.deepEqual((await several(3, 'other')).toSorted(), ['a', 'b', 'c']);
    assert.deepEqual(new Set(await several(2)), new Set(['c']));
  });

  test('are refused where the subset has no workload, or no rule has it, and the record says which', async () => {
    await lead([all('v3')]);
    assert.equal(await refusal(mesh.workload('client'), { ip: mesh.lab.vip('web').ipv4, port: 80 }), 'ECONNRESET');
    const empty = await mesh.closed('node1', outbound);
    assert.deepEqual(empty.route, routeTaken(0, 'v3'));
    assert.deepEqual([empty.reason, empty.detail], ['NO_ENDPOINT', 'subset v3 of shop/web has none for port 80']);
    await lead([all('v9')]);
    assert.equal(await refusal(mesh.workload('client'), { ip: mesh.lab.vip('web').ipv4, port: 80 }), 'ECONNRESET');
    const unknown = await mesh.closed('node1', outbound);
    assert.equal(unknown.reason, 'NO_ENDPOINT');
    assert.match(
      unknown.detail,
      /VirtualService\/shop\/web spec\.tcp\[0\] names the subset v9, which no DestinationRule/,
    );
  });

  test('stay within the subset when an endpoint of it does not serve', async () => {
    await lead([all('v1')]);
    await servers.get('a')?.close();
    assert.deepEqual(new Set(await several(4)), new Set(['b']));
    servers.set('a', await mesh.workload('a').listen({ port }, greetAndEcho));
  });

  test('go to a workload whose own address is dialled, whatever is said of the service', async () => {
    await lead([all('v2')]);
    const socket = await mesh.workload('client').connect({ ip: mesh.workload('a').ipv4, port });
    await exchange(socket, 'x');
    assert.equal((await mesh.closed('node1', outbound)).destination.workload, 'shop/a');
  });

  test('that are open stay, and new ones follow a change at once', async () => {
    await lead([all('v1')]);
    const socket = await mesh.workload('client').connect({ ip: mesh.lab.vip('web').ipv4, port: 80 });
    await new Promise((resolve) => socket.once('data', resolve));
    await lead([all('v2')]);
    assert.deepEqual(await several(1), ['c']);
    assert.match(await exchange(socket, 'still'), /still$/);
    assert.match((await mesh.closed('node1', outbound)).destination.workload ?? '', /^shop\/[ab]$/);
  });
});

function routeTaken(index: number, name: string | null): ClosedConnection['route'] {
  return { route: `VirtualService/shop/web spec.tcp[${index}]`, subset: name };
}

function choice(name: string): Pick<TrafficRoute, 'choices'> {
  return { choices: [{ subset: name, weight: 1 }] };
}
