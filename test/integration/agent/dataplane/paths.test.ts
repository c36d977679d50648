import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, describe, test } from 'node:test';
import { plainRule, type CompiledRule } from '../../../../shared/policy/snapshot.js';
import { waitUntil } from '../../../lab/wait-until.js';
import type { LabServer } from '../../../lab/namespace-sockets.js';
import {
  exchange,
  greetAndEcho,
  inbound,
  outbound,
  refusal,
  ruleOf,
} from '../../../support/agent/dataplane-applications.js';
import { allowAll, DataplaneMesh } from '../../../support/agent/dataplane-mesh.js';
import { patientMs } from '../../../lab/patience.js';

const port = 8080;

describe('a connection through the data plane', { timeout: patientMs(120_000) }, () => {
  let mesh: DataplaneMesh;
  let revision = 1;
  const servers: LabServer[] = [];

  before(async () => {
    mesh = await DataplaneMesh.start({
      hosts: [
        {
          name: 'node1',
          workloads: [
            { name: 'web', namespace: 'shop', serviceAccount: 'web', labels: { app: 'web' } },
            { name: 'side', namespace: 'shop', serviceAccount: 'side', labels: { app: 'side' } },
          ],
        },
        {
          name: 'node2',
          workloads: [
            { name: 'db', namespace: 'shop', serviceAccount: 'db', labels: { app: 'db', pool: 'pair' } },
            { name: 'dead', namespace: 'shop', serviceAccount: 'dead', labels: { pool: 'pair' } },
            { name: 'plain', namespace: 'shop', serviceAccount: 'plain', labels: { app: 'plain' }, isMeshed: false },
          ],
        },
      ],
      services: [
        { name: 'db', namespace: 'shop', ports: [{ port: 5432, targetPort: port }], selector: { app: 'db' } },
        { name: 'pair', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { pool: 'pair' } },
        { name: 'self', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { app: 'web' } },
      ],
      externalHosts: ['outside'],
    });
    const listeners = [...['web', 'side', 'db', 'plain'].map((name) => mesh.workload(name)), mesh.lab.host('outside')];
    for (const node of listeners) servers.push(await node.listen({ port }, greetAndEcho));
  });

  after(async () => {
    for (const server of servers) await server.close();
    await mesh[Symbol.asyncDispose]();
  });

  for (const family of ['ipv4', 'ipv6'] as const) {
    test(`goes through a tunnel between hosts and keeps the client's address (${family})`, async () => {
      const web = mesh.workload('web');
      const db = mesh.workload('db');
      const socket = await web.connect({ ip: db[family], port });
      assert.equal(await exchange(socket, 'ping'), `hello ${web[family]}\nping`);
      const out = await mesh.closed('node1', outbound);
      const into = await mesh.closed('node2', inbound);
      assert.deepEqual([out.path, out.reason, out.detail], ['hbone', 'OK', '']);
      assert.deepEqual([into.path, into.reason, into.detail], ['hbone', 'OK', '']);
      assert.equal(out.traceId, into.traceId);
      assert.equal(out.source.identity, 'spiffe://culvert.test/ns/shop/sa/web');
      assert.equal(out.destination.identity, 'spiffe://culvert.test/ns/shop/sa/db');
      assert.deepEqual([into.source.workload, into.destination.workload], ['shop/web', 'shop/db']);
      assert.equal(into.source.address?.ip, web[family]);
      assert.deepEqual([out.bytesSent, into.bytesSent], [4, 4]);
      assert.equal(out.bytesReceived, into.bytesReceived);
      assert.equal(ruleOf(out), 'Mesh/default');
      assert.notEqual(out.connectMs, null);
      assert.notEqual(out.firstByteMs, null);
    });

    test(`stays on the host between two of its workloads, with the client's address (${family})`, async () => {
      const web = mesh.workload('web');
      const socket = await web.connect({ ip: mesh.workload('side')[family], port });
      assert.equal(await exchange(socket, 'x'), `hello ${web[family]}\nx`);
      const record = await mesh.closed('node1', outbound);
      assert.deepEqual([record.path, record.reason], ['local', 'OK']);
      assert.equal(record.destination.workload, 'shop/side');
      assert.equal(mesh.unclaimed('node1').length, 0, 'one record, not one for each half');
    });

    test(`to a VIP reaches an endpoint at its target port (${family})`, async () => {
      const socket = await mesh.workload('web').connect({ ip: mesh.lab.vip('db')[family], port: 5432 });
      assert.match(await exchange(socket, 'q'), /q$/);
      const record = await mesh.closed('node1', outbound);
      assert.equal(record.service, 'shop/db');
      assert.deepEqual(record.requested, { ip: mesh.lab.vip('db')[family], port: 5432 });
      assert.deepEqual(record.destination.address, { ip: mesh.workload('db')[family], port });
      await mesh.closed('node2', inbound);
    });

    test(`of a workload to itself through a VIP works (${family})`, async () => {
      const socket = await mesh.workload('web').connect({ ip: mesh.lab.vip('self')[family], port: 80 });
      assert.match(await exchange(socket, 'me'), /me$/);
      assert.equal((await mesh.closed('node1', outbound)).path, 'local');
    });
  }

  test('to an address outside the mesh passes through with its own source address', async () => {
    const web = mesh.workload('web');
    const socket = await web.connect({ ip: mesh.lab.host('outside').ipv4, port });
    assert.equal(await exchange(socket, 'x'), `hello ${web.ipv4}\nx`);
    const record = await mesh.closed('node1', outbound);
    assert.deepEqual([record.path, record.reason, record.destination.workload], ['passthrough', 'OK', null]);
  });

  test('to a registered workload without an agent is plaintext', async () => {
    const socket = await mesh.workload('web').connect({ ip: mesh.workload('plain').ipv4, port });
    await exchange(socket, 'x');
    const record = await mesh.closed('node1', outbound);
    assert.deepEqual([record.path, record.destination.workload], ['plaintext', 'shop/plain']);
    assert.equal(record.destination.identity, null);
  });

  test('to a port where nothing listens is reset, and both ends say CONNECT_REFUSED', async () => {
    assert.equal(await refusal(mesh.workload('web'), { ip: mesh.workload('db').ipv4, port: 9 }), 'ECONNRESET');
    assert.equal((await mesh.closed('node1', outbound)).reason, 'CONNECT_REFUSED');
    assert.equal((await mesh.closed('node2', inbound)).reason, 'CONNECT_REFUSED');
  });

  test('tries another endpoint of the service when one refuses, and has one record for it all', async () => {
    // By open connections one that refused is not tried again for ten seconds.
    const rule = { namespace: 'shop', name: 'pair', host: 'pair.shop.svc.cluster.local', ports: {} };
    const inTurns = { ...rule, policy: { balancing: 'round-robin' } } as const;
    await mesh.apply(allowAll({ revision: ++revision, destinationRules: [inTurns] }));
    const refusals = [];
    for (let i = 0; i < 4; i++) {
      const socket = await mesh.workload('web').connect({ ip: mesh.lab.vip('pair').ipv4, port: 80 });
      assert.match(await exchange(socket, 'x'), /x$/);
      const record = await mesh.closed('node1', outbound);
      assert.deepEqual([record.reason, record.destination.workload], ['OK', 'shop/db']);
      await mesh.closed('node2', (into) => inbound(into) && into.reason === 'OK');
      refusals.push(...mesh.takeUnclaimed('node2'));
    }
    assert.deepEqual(
      refusals.map((record) => [record.reason, record.destination.workload]),
      Array.from({ length: 2 }, () => ['CONNECT_REFUSED', 'shop/dead']),
    );
    assert.equal(mesh.unclaimed('node1').length, 0);
    await mesh.apply(allowAll({ revision: ++revision }));
  });

  test('to a service port that does not exist is NO_ENDPOINT', async () => {
    assert.equal(await refusal(mesh.workload('web'), { ip: mesh.lab.vip('db').ipv4, port: 1 }), 'ECONNRESET');
    const record = await mesh.closed('node1', outbound);
    assert.deepEqual([record.reason, record.service], ['NO_ENDPOINT', 'shop/db']);
  });

  for (const ownPort of [15001, 15006, 15008]) {
    test(`to the agent's port ${ownPort} of another workload is LOOP_DETECTED`, async () => {
      assert.equal(await refusal(mesh.workload('web'), { ip: mesh.workload('db').ipv4, port: ownPort }), 'ECONNRESET');
      assert.equal((await mesh.closed('node1', outbound)).reason, 'LOOP_DETECTED');
    });
  }

  test("to the agent's own outbound port in the same namespace is LOOP_DETECTED", async () => {
    const web = mesh.workload('web');
    assert.equal(await refusal(web, { ip: web.ipv4, port: 15001 }), 'ECONNRESET');
    assert.equal((await mesh.closed('node1', outbound)).reason, 'LOOP_DETECTED');
  });

  test('that comes in plaintext from outside is refused in a STRICT mesh and ruled by address in a PERMISSIVE one', async () => {
    const db = mesh.workload('db');
    const outside = mesh.lab.host('outside');
    assert.equal(await refusal(outside, { ip: db.ipv4, port }), 'ECONNRESET');
    const record = await mesh.closed('node2', inbound);
    assert.deepEqual([record.reason, ruleOf(record)], ['SOURCE_UNKNOWN', 'Mesh/default']);

    const mesh1 = { defaultAction: 'allow', outbound: 'allow', mtls: 'PERMISSIVE', rootNamespace: 'r' } as const;
    await mesh.apply(allowAll({ revision: ++revision, mesh: mesh1 }));
    for (const family of ['ipv4', 'ipv6'] as const) {
      const taken = await outside.connect({ ip: db[family], port });
      assert.equal(await exchange(taken, 'x'), `hello ${outside[family]}\nx`);
      const passed = await mesh.closed('node2', inbound);
      assert.deepEqual([passed.path, passed.reason, passed.source.identity], ['plaintext', 'OK', null]);
    }

    const from = [{ cidrs: [`${outside.ipv4}/32`] }];
    const rule: CompiledRule = {
      ...plainRule,
      name: 'no-outside',
      tier: 'team',
      priority: 1,
      action: 'deny',
      mode: 'enforce',
      from,
      to: [],
      ports: [],
    };
    await mesh.apply(allowAll({ revision: ++revision, mesh: mesh1, rules: [rule] }));
    assert.equal(await refusal(outside, { ip: db.ipv4, port }), 'ECONNRESET');
    const denied = await mesh.closed('node2', inbound);
    assert.deepEqual([denied.reason, ruleOf(denied)], ['POLICY_DENY', 'SegmentationRule/no-outside']);
    await mesh.apply(allowAll({ revision: ++revision }));
  });

  test('of a workload to itself through a VIP works where the rules refuse everything', async () => {
    const closed = { defaultAction: 'deny', outbound: 'deny', mtls: 'STRICT', rootNamespace: 'r' } as const;
    await mesh.apply(allowAll({ revision: ++revision, mesh: closed }));
    const socket = await mesh.workload('web').connect({ ip: mesh.lab.vip('self').ipv4, port: 80 });
    assert.match(await exchange(socket, 'me'), /me$/);
    const record = await mesh.closed('node1', outbound);
    assert.deepEqual([record.path, record.reason, record.destination.workload], ['local', 'OK', 'shop/web']);
    assert.equal(await refusal(mesh.workload('web'), { ip: mesh.workload('side').ipv4, port }), 'ECONNRESET');
    assert.equal((await mesh.closed('node1', outbound)).reason, 'POLICY_DEFAULT_DENY');
    await mesh.apply(allowAll({ revision: ++revision }));
  });

  test('that a neighbour on the same link aims at the loopback of a workload does not get there', async () => {
    const db = mesh.workload('db');
    const neighbour = mesh.lab.host('node2');
    // What an attacker would do in a namespace of his own: 127.0.0.5 is a host like any other, and db the way to it.
    await neighbour.check([
      'sh',
      '-ec',
      `sysctl -qw net.ipv4.conf.all.route_localnet=1
      ip route add 127.0.0.5 via ${db.ipv4} table 200; ip rule add pref 50 to 127.0.0.5 lookup 200
      ip rule add pref 100 lookup local; ip rule del pref 0`,
    ]);
    const mesh1 = { defaultAction: 'allow', outbound: 'allow', mtls: 'PERMISSIVE', rootNamespace: 'r' } as const;
    await mesh.apply(allowAll({ revision: ++revision, mesh: mesh1 }));
    assert.equal(await refusal(neighbour, { ip: '127.0.0.5', port }), 'ECONNRESET');
    const record = await mesh.closed('node2', inbound);
    assert.deepEqual([record.reason, record.requested?.ip], ['HOST_UNREACHABLE', '127.0.0.5']);
    await mesh.apply(allowAll({ revision: ++revision }));
    const undo = 'ip rule add pref 0 lookup local; ip rule del pref 100; ip rule del pref 50';
    await neighbour.check(['sh', '-ec', `${undo}; sysctl -qw net.ipv4.conf.all.route_localnet=0`]);
  });

  test('carries a server-first protocol and half-close in both directions', async () => {
    const socket = await mesh.workload('web').connect({ ip: mesh.workload('db').ipv4, port });
    const [greeting] = (await once(socket, 'data')) as [Buffer];
    assert.match(greeting.toString(), /^hello /);
    assert.equal(await exchange(socket, 'later'), 'later');
    await mesh.closed('node1', outbound);
    await mesh.closed('node2', inbound);
  });

  test('reports bytes while it lives, each byte once', async () => {
    let sent = 0;
    const count = (report: { live: readonly { sent: number; direction: string }[] }): void => {
      for (const live of report.live) if (live.direction === 'outbound') sent += live.sent;
    };
    mesh.pool('node1').on('report', count);
    const socket = await mesh.workload('web').connect({ ip: mesh.workload('db').ipv4, port });
    socket.write('12345');
    await waitUntil('the sweep', () => (sent === 5 ? true : undefined), 15_000);
    const [dump] = await mesh.pool('node1').dump();
    assert.equal(dump?.connections.length, 1);
    assert.equal(dump?.connections[0]?.bytesSent, 5);
    await exchange(socket, '678');
    await mesh.closed('node1', outbound);
    await mesh.closed('node2', inbound);
    await waitUntil('the last bytes', () => (sent === 8 ? true : undefined), 15_000);
    mesh.pool('node1').off('report', count);
  });

  test('leaves nothing open in the workers', async () => {
    for (const host of ['node1', 'node2']) {
      const [dump] = await mesh.pool(host).dump();
      assert.deepEqual(dump?.connections, []);
      assert.deepEqual(mesh.unclaimed(host), []);
    }
  });
});
