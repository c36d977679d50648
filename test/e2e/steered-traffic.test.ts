import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Socket } from 'node:net';
import type { LabServer } from '../lab/namespace-sockets.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { patientMs } from '../lab/patience.js';
import { waitUntil } from '../lab/wait-until.js';
import { answerTo, exchange, greetAndEcho, refusal } from '../support/agent/dataplane-applications.js';
import { documents, meshOf } from '../support/mesh/rule-world.js';

const port = 8080;

const destinationRule = (spec: string): string => `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web, namespace: shop }
spec: { host: web, subsets: [{ name: v1, labels: { version: v1 } }, { name: v2, labels: { version: v2 } }], ${spec} }
`;
const own = 'culvert.dev/v1';
const virtualService = (routes: string, apiVersion = 'networking.istio.io/v1'): string => `
apiVersion: ${apiVersion}
kind: VirtualService
metadata: { name: web, namespace: shop }
spec: { hosts: [web], tcp: [${routes}] }
`;
const to = (v1: number, v2: number): string =>
  `{ route: [{ destination: { host: web, subset: v1 }, weight: ${v1} }, { destination: { host: web, subset: v2 }, weight: ${v2} }] }`;

/** Documents about traffic, from `culvert apply` to the figures of agents, with real processes. */
describe('traffic that documents steer', { timeout: patientMs(240_000) }, () => {
  let mesh: Mesh;
  const servers = new Map<string, LabServer>();

  before(async () => {
    const spec = (name: string, labels: Record<string, string>) => ({
      name,
      namespace: 'shop',
      serviceAccount: name,
      labels,
    });
    mesh = await startMesh({
      topology: {
        hosts: [
          { name: 'node1', workloads: [spec('client', { app: 'client' })] },
          {
            name: 'node2',
            workloads: [
              spec('a', { app: 'web', version: 'v1' }),
              spec('b', { app: 'web', version: 'v1' }),
              spec('c', { app: 'web', version: 'v2' }),
            ],
          },
        ],
        services: [
          { name: 'web', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { app: 'web' } },
        ],
      },
    });
    for (const name of ['a', 'b', 'c']) await serve(name, greetAndEcho);
    await mesh.apply(documents(meshOf('{ defaultAction: allow, outbound: allow }')));
  });
  after(async () => {
    for (const server of servers.values()) await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  async function serve(name: string, how: ((socket: Socket) => void) | null): Promise<void> {
    await servers.get(name)?.close();
    servers.delete(name);
    if (how !== null) servers.set(name, await mesh.lab.workload(name).listen({ port }, how));
  }

  const vip = () => ({ ip: mesh.lab.vip('web').ipv4, port: 80 });
  const culvert = async (...args: readonly string[]): Promise<string> => (await mesh.controller.culvert(args)).stdout;

  async function served(times: number): Promise<void> {
    for (let i = 0; i < times; i++) {
      assert.match(await exchange(await mesh.lab.workload('client').connect(vip()), 'x'), /x$/);
    }
  }

  test('a canary gets its share, and the log, the figures and culvert routes say the same', async () => {
    await mesh.apply(documents(destinationRule(''), virtualService(to(80, 20))));
    const times = 60;
    await served(times);
    const route = 'VirtualService/shop/web spec.tcp[0]';
    const agent = mesh.agent('node1');
    const count = (subset: string): Promise<number> =>
      agent.metric('culvert_connections_routed_total', { route, subset, reason: 'OK' });
    await waitUntil('all of them counted', async () =>
      (await count('v1')) + (await count('v2')) === times ? true : undefined,
    );
    const ofCanary = await count('v2');
    // Five standard deviations around a fifth; chance here is the agent's own.
    assert.ok(Math.abs(ofCanary - times / 5) <= 5 * Math.sqrt(times * 0.2 * 0.8), `${ofCanary} of ${times}`);
    const logged = agent.records().filter((record) => record.subset === 'v2');
    assert.equal(logged.length, ofCanary);
    for (const record of logged) assert.deepEqual([record.route, record.destinationWorkload], [route, 'shop/c']);
    assert.match(
      await culvert('routes', 'shop/client', 'shop/web'),
      /spec\.tcp\[0\][^]*v1 +80 % +least-connections +shop\/a .* 40 %\n.*shop\/b .* 40 %\n +v2 +20 % +least-connections +shop\/c .* 20 %/,
    );
  });

  test('an endpoint that is killed fails no client, is shown as ejected, and comes back after a trial', async () => {
    const detection = 'outlierDetection: { consecutive5xxErrors: 2, baseEjectionTime: 2s, maxEjectionPercent: 50 }';
    await mesh.apply(documents(destinationRule(`trafficPolicy: { ${detection} }`), virtualService(to(100, 0))));
    await serve('a', null);
    // Both threads of the agent may have to see it fail. No client does.
    const shown = await waitUntil('an ejected endpoint', async () => {
      await served(8);
      const text = await culvert('endpoints', 'shop/web');
      return /^Ejected, as agents said last:/m.test(text) ? text : undefined;
    });
    assert.match(
      shown,
      /shop\/a +node1 +[12] +subset v1 of shop\/web:80 +shop\/\S+ +(?:ejected|to be tried|on trial) +CONNECT_REFUSED +\d+/,
    );
    assert.match(
      await culvert('routes', 'shop/client', 'shop/web'),
      /shop\/a .* 50 %; (?:ejected|to be tried|on trial) by [12] threads? .*\(CONNECT_REFUSED\)\n.*shop\/b .* 50 %\n/,
    );
    const agent = mesh.agent('node1');
    const labels = { destination: 'subset v1 of shop/web:80', reason: 'CONNECT_REFUSED' };
    assert.ok((await agent.metric('culvert_endpoint_ejections_total', labels)) >= 1);
    await serve('a', greetAndEcho);
    await waitUntil(
      'it is whole',
      async () => {
        await served(4);
        const text = await culvert('endpoints', 'shop/web');
        return /^Ejected/m.test(text) ? undefined : text;
      },
      60_000,
    );
    assert.equal(await agent.metric('culvert_endpoints_ejected'), 0);
  });

  test('a workload that comes gets few connections while it warms up, and its whole share without that', async () => {
    await mesh.delete('VirtualService', 'web', '-n', 'shop');
    const agent = mesh.agent('node1');
    const warm = (warmup: string): Promise<unknown> =>
      mesh.apply(documents(destinationRule(`trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN${warmup} } }`)));
    /** Opens connections, and returns how many of them went to the workload. */
    const ofNew = async (times: number): Promise<number> => {
      const before_ = agent.records().length;
      await served(times);
      const ended = await waitUntil('the records of all', () => {
        const since = agent
          .records()
          .slice(before_)
          .filter(({ service }) => service === 'shop/web');
        return since.length >= times ? since : undefined;
      });
      return ended.filter(({ destinationWorkload }) => destinationWorkload === 'shop/c').length;
    };
    // In its beginning it gets nothing, so that a connection shows a fault.
    await warm(', warmup: { duration: 1h, minimumPercent: 0 }');
    // Each thread of the agent has turns of its own, which begin again when the registry changes.
    const isWhole = (count: number, times: number): boolean => Math.abs(count - times / 3) <= 5;
    const first = await ofNew(30);
    assert.ok(isWhole(first, 30), `it was there when the agent started: ${first} of 30`);
    const known = mesh.lab.resources();
    await mesh.delete('Workload', 'c', '-n', 'shop');
    await waitUntil('it is gone', async () => ((await ofNew(6)) === 0 ? true : undefined));
    await mesh.apply(known);
    await waitUntil('it is captured again, and serves', async () => {
      const socket = await mesh.lab.workload('client').connect({ ip: mesh.lab.workload('c').ipv4, port });
      const answer = await exchange(socket, 'x').catch(() => '');
      return answer.endsWith('x') ? true : undefined;
    });
    // Chance lets one of 3,600 / (the seconds since) turns through.
    assert.ok((await ofNew(30)) <= 3, 'it is new');
    assert.match(await culvert('routes', 'shop/client', 'shop/web'), /warmup from 0 % within 3600s/);
    await warm('');
    const last = await ofNew(60);
    assert.ok(isWhole(last, 60), `nothing warms up: ${last} of 60`);
  });

  test('a breaker opens at its limit, says so, and closes', async () => {
    await mesh.apply(documents(destinationRule('trafficPolicy: { connectionPool: { tcp: { maxConnections: 3 } } }')));
    const open: Socket[] = [];
    const agent = mesh.agent('node1');
    await waitUntil('an open circuit', async () => {
      if (open.length < 3) {
        const socket = await mesh.lab.workload('client').connect(vip());
        await new Promise((resolve) => socket.once('data', resolve));
        open.push(socket);
        return undefined;
      }
      assert.equal(await refusal(mesh.lab.workload('client'), vip()), 'ECONNRESET');
      return true;
    });
    const { service, detail } = await agent.waitForRecord('a refusal', ({ reason }) => reason === 'CIRCUIT_OPEN');
    assert.equal(service, 'shop/web');
    assert.match(detail ?? '', /^3 connections to shop\/web:80 are open/);
    await waitUntil('it is counted', async () =>
      (await agent.metric('culvert_connections_circuit_open_total', { service: 'shop/web' })) >= 1 ? true : undefined,
    );
    for (const socket of open) await exchange(socket, 'bye');
    await waitUntil('a closed circuit', async () => {
      const socket = await mesh.lab.workload('client').connect(vip());
      const answer = await exchange(socket, 'x').catch(() => '');
      return answer.endsWith('x') ? true : undefined;
    });
  });

  test('a share of the connections gets faults, which log, figures, routes, why and lint name', async () => {
    const percent = 40;
    const fault = `{ abort: { percentage: { value: ${percent} }, expiresAt: "2037-01-31T18:00:00Z" }, delay: { percentage: { value: 100 }, fixedDelay: 20ms } }`;
    await mesh.apply(
      documents(
        destinationRule(''),
        virtualService(`{ fault: ${fault}, route: [{ destination: { host: web } }] }`, own),
      ),
    );
    const agent = mesh.agent('node1');
    const times = 100;
    let refused = 0;
    for (let left = times; left > 0; left -= 10) {
      const client = mesh.lab.workload('client');
      const answers = await Promise.all(Array.from({ length: 10 }, () => answerTo(client, vip(), 'x')));
      refused += answers.filter((answer) => answer === null).length;
    }
    const route = 'VirtualService/shop/web spec.tcp[0]';
    const count = (of: string): Promise<number> =>
      agent.metric('culvert_connections_faulted_total', { route, fault: of });
    await waitUntil('all of them counted', async () => ((await count('delay')) === times ? true : undefined));
    // Six standard deviations; chance here is the agent's own.
    const expected = (times * percent) / 100;
    const tolerance = 6 * Math.sqrt(expected * (1 - percent / 100));
    assert.ok(Math.abs(refused - expected) <= tolerance, `${refused} of ${times}`);
    assert.equal(await count('abort'), refused);
    // Lines of the log come by a pipe, and may be later than the figure.
    const logged = await waitUntil('a line of each of them', async () => {
      const lines = agent.records().filter(({ faults }) => faults !== undefined);
      return lines.length >= times ? lines : undefined;
    });
    assert.equal(logged.length, times);
    const aborted = logged.filter(({ reason }) => reason === 'FAULT_INJECTED');
    assert.equal(aborted.length, refused);
    for (const record of aborted) {
      assert.deepEqual([record.faults, record.detail], [['delay', 'abort'], `fault.abort of ${route}`]);
    }
    for (const [argv, says] of [
      [
        ['routes', 'shop/client', 'shop/web'],
        /fault +delay of 20ms for 100 % of the connections\n +fault +abort for 40 % /,
      ],
      [
        ['why', 'shop/client', 'service:shop/web'],
        /spec\.tcp\[0\] does this to 40 % of the connections on purpose: abort,/,
      ],
      [['lint'], /endless fault: spec\.tcp\[0\]\.fault\.delay has no expiresAt/],
    ] as const) {
      assert.match(await culvert(...argv), says);
    }
    await mesh.delete('VirtualService', 'web', '-n', 'shop');
    await served(5);
  });

  test('a share of the connections is copied to a subset, which the log, the figures, routes and why say', async () => {
    const percent = 50;
    const subset = (name: string): string => `{ host: web, subset: ${name} }`;
    const copied = `mirror: ${subset('v2')}, mirrorPercentage: { value: ${percent} }`;
    const route = `route: [{ destination: ${subset('v1')} }]`;
    const told: string[] = [];
    await serve('c', (socket) => {
      socket.on('error', () => {});
      socket.write('what no client gets');
      let text = '';
      socket.on('data', (bytes: Buffer) => (text += bytes.toString()));
      socket.on('end', () => {
        told.push(text);
        socket.end();
      });
    });
    const agent = mesh.agent('node1');
    await mesh.apply(documents(destinationRule(''), virtualService(`{ ${copied}, ${route} }`, own)));
    const times = 100;
    for (let at = 0; at < times; at += 1) {
      const answer = await exchange(await mesh.lab.workload('client').connect(vip()), `message ${at}`);
      assert.match(answer, new RegExp(`message ${at}$`));
      assert.doesNotMatch(answer, /what no client gets/);
    }
    const logged = await waitUntil('a line of each of them', () => {
      const lines = agent.records().filter(({ route: of, mirrorOf }) => of !== undefined && mirrorOf === undefined);
      const mine = lines.slice(-times);
      return mine.length === times && mine.every(({ subset: of }) => of === 'v1') ? mine : undefined;
    });
    await waitUntil('the end of all', async () =>
      (await agent.metric('culvert_open_connections')) === 0 ? true : undefined,
    );
    const copies = await waitUntil('a line of each copy', () => {
      const lines = agent.records().filter(({ mirrorOf }) => mirrorOf !== undefined);
      return lines.length === told.length ? lines : undefined;
    });
    // Six standard deviations; chance here is the agent's own.
    assert.ok(Math.abs(told.length - times / 2) <= 6 * Math.sqrt(times / 4), `${told.length} of ${times}`);
    for (const text of told) assert.match(text, /^message \d+$/);
    assert.equal(new Set(told).size, told.length);
    const ids = new Set(logged.map(({ traceId }) => traceId));
    for (const { mirrorOf, reason, destinationWorkload } of copies) {
      assert.ok(ids.has(mirrorOf ?? ''));
      assert.deepEqual([reason, destinationWorkload], ['OK', 'shop/c']);
    }
    const labels = { route: 'VirtualService/shop/web spec.tcp[0]', reason: 'OK' };
    assert.equal(await agent.metric('culvert_connections_mirrored_total', labels), copies.length);
    assert.match(await culvert('routes', 'shop/client', 'shop/web'), /mirror to .* for 50 % of the connections\n/);
    assert.match(
      await culvert('why', 'shop/client', 'service:shop/web'),
      /spec\.tcp\[0\] has 50 % of the connections copied to /,
    );
    // Copies to the same service take no turns of what is served.
    const balanced = 'trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } }';
    const toSame = `{ mirror: ${subset('v1')}, ${route} }`;
    await mesh.apply(documents(destinationRule(balanced), virtualService(toSame, own)));
    const seenBefore = agent.records().length;
    await served(40);
    const shares = await waitUntil('the lines of those', () => {
      const since = agent.records().slice(seenBefore);
      const of = since.filter(({ mirrorOf, subset: taken }) => mirrorOf === undefined && taken === 'v1');
      return of.length === 40 ? of : undefined;
    });
    const ofA = shares.filter(({ destinationWorkload }) => destinationWorkload === 'shop/a').length;
    assert.ok(Math.abs(ofA - 20) <= 5, `${ofA} of 40`);
    await mesh.delete('VirtualService', 'web', '-n', 'shop');
    await serve('c', greetAndEcho);
    await served(5);
  });
});
