import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import type { AccessLogLine } from '../../agent/telemetry/access-log.js';
import type { LabNode } from '../lab/lab-node.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { type Attempt, attempt, serveSeenAddress } from '../support/mesh/attempt.js';
import { authorizationPolicy, documents, meshOf, segmentationRule } from '../support/mesh/rule-world.js';
import { endOf, readSome, twoHosts } from '../support/mesh/two-hosts.js';

const port = 8080;
let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts });
  await Promise.all(['server', 'client'].map((name) => serveSeenAddress(mesh.lab.workload(name), port)));
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

const nothing = segmentationRule('outside', '{ action: deny, mode: off }');

async function enforce(settings: string, rule = nothing): Promise<void> {
  await mesh.apply(documents(meshOf(settings), rule));
}

/** What the agent of node2 wrote of an attempt to reach the server. */
function inboundRecord(made: Attempt): Promise<AccessLogLine> {
  return mesh
    .agent('node2')
    .waitForRecord(
      `the plain connection to ${made.dialled}`,
      (line) =>
        line.direction === 'inbound' &&
        line.requested === made.dialled &&
        Date.parse(line.startedAt) >= made.startedAtMs,
    );
}

for (const family of ['ipv4', 'ipv6'] as const) {
  describe(`plain text from outside over ${family}`, () => {
    const dial = (from: LabNode): Promise<Attempt> => attempt(from, mesh.lab.workload('server')[family], port);
    const outside = (): LabNode => mesh.lab.host('outside');

    test('passes in a PERMISSIVE mesh when no rule denies, with the client’s address', async () => {
      await enforce('{ mtls: PERMISSIVE }');
      const made = await dial(outside());
      assert.equal(made.seenAs, `server ${outside()[family]}`);
      const record = await inboundRecord(made);
      assert.deepEqual([record.path, record.reason, record.rule], ['plaintext', 'OK', 'Mesh/default']);
      assert.equal(record.sourceIdentity, undefined);
      assert.equal(record.sourceWorkload, undefined);
    });

    test('is decided by the rules in a PERMISSIVE mesh, by its address', async () => {
      const cidr = `${outside()[family]}/${family === 'ipv4' ? 32 : 128}`;
      const from = `from: [{ cidr: "${cidr}" }]`;
      await enforce('{ mtls: PERMISSIVE }', segmentationRule('outside', `{ action: deny, ${from} }`));
      const denied = await dial(outside());
      assert.equal(denied.outcome, 'ECONNRESET');
      const denial = await inboundRecord(denied);
      assert.deepEqual([denial.reason, denial.rule], ['POLICY_DENY', 'SegmentationRule/outside']);
      await enforce(
        '{ mtls: PERMISSIVE, defaultAction: deny }',
        segmentationRule('outside', `{ action: allow, ${from} }`),
      );
      assert.equal((await dial(outside())).outcome, 'OK');
      await enforce('{ mtls: PERMISSIVE, defaultAction: deny }');
      assert.equal((await inboundRecord(await dial(outside()))).reason, 'POLICY_DEFAULT_DENY');
    });

    test('is refused in a STRICT mesh, with the reason', async () => {
      await enforce('{ mtls: STRICT }');
      const made = await dial(outside());
      assert.equal(made.outcome, 'ECONNRESET');
      const record = await inboundRecord(made);
      assert.deepEqual([record.reason, record.rule], ['SOURCE_UNKNOWN', 'Mesh/default']);
    });

    test('reaches no workload with an identity that it did not prove', async () => {
      const rule = segmentationRule('outside', '{ action: allow, from: [{ namespace: shop }] }');
      await enforce('{ mtls: PERMISSIVE, defaultAction: deny }', rule);
      assert.equal((await dial(outside())).outcome, 'ECONNRESET');
    });
  });

  describe(`connections of the host over ${family}`, () => {
    // The strictest there is: plain text is refused and nothing is allowed.
    beforeEach(() => enforce('{ mtls: STRICT, defaultAction: deny }'));

    test('a socket of the host itself does not reach its workload, and none of another host does', async () => {
      for (const name of ['node2', 'node1']) {
        const made = await attempt(mesh.lab.host(name), mesh.lab.workload('server')[family], port);
        assert.equal(made.outcome, 'ECONNRESET');
        assert.equal((await inboundRecord(made)).reason, 'SOURCE_UNKNOWN');
      }
    });

    test('what a NAT of the host gave the host’s address does not', async () => {
      const node2 = mesh.lab.host('node2');
      const tables = family === 'ipv4' ? 'iptables' : 'ip6tables';
      const server = mesh.lab.workload('server');
      const masquerade = [
        '-d',
        server[family],
        '-s',
        mesh.lab.host('outside')[family],
        '-p',
        'tcp',
        '-j',
        'SNAT',
        '--to-source',
        node2[family],
      ];
      await node2.check([tables, '-t', 'nat', '-I', 'POSTROUTING', '1', ...masquerade]);
      try {
        const made = await attempt(mesh.lab.host('outside'), server[family], port);
        assert.equal(made.outcome, 'ECONNRESET');
        const record = await inboundRecord(made);
        assert.equal(record.reason, 'SOURCE_UNKNOWN');
        const address = record.sourceAddress ?? '';
        assert.ok(address.includes(node2[family]), `it came as ${address}: the NAT did not apply`);
      } finally {
        await node2.check([tables, '-t', 'nat', '-D', 'POSTROUTING', ...masquerade]);
      }
    });

    test('what claims the address of a probe from outside is dropped', async () => {
      const outside = mesh.lab.host('outside');
      const [probe, bits] =
        family === 'ipv4' ? ['169.254.7.127', 32] : ['fd16:9254:7127:1337:ffff:ffff:ffff:ffff', 128];
      const version = family === 'ipv4' ? '-4' : '-6';
      const [, device = ''] =
        /dev (\S+)/.exec(await outside.check(['ip', version, 'route', 'get', mesh.lab.workload('server')[family]])) ??
        [];
      await outside.check([
        'ip',
        version,
        'address',
        'add',
        `${probe}/${bits}`,
        'dev',
        device,
        ...(family === 'ipv6' ? ['nodad'] : []),
      ]);
      const route = await outside.check(['ip', version, 'route', 'show', 'match', mesh.lab.workload('server')[family]]);
      const via = /via (\S+)/.exec(route.split('\n').findLast((line) => line.includes('via')) ?? '')?.[1] ?? '';
      const target = `${mesh.lab.workload('server')[family]}/${bits}`;
      await outside.check(['ip', version, 'route', 'add', target, 'via', via, 'dev', device, 'src', probe ?? '']);
      try {
        const made = await attempt(outside, mesh.lab.workload('server')[family], port, 1500);
        assert.equal(made.outcome, 'LAB_CONNECT_DEADLINE');
      } finally {
        await outside.check(['ip', version, 'route', 'del', target]);
        await outside.check(['ip', version, 'address', 'del', `${probe}/${bits}`, 'dev', device]);
      }
    });
  });
}

test('a plain connection is cut when the mesh becomes STRICT', async () => {
  await enforce('{ mtls: PERMISSIVE }');
  const server = mesh.lab.workload('server');
  await using echo = await server.listen({}, (socket) => void socket.pipe(socket));
  const startedAtMs = Date.now();
  const client = await mesh.lab.host('outside').connect({ ip: server.ipv4, port: echo.port });
  client.write('ping');
  assert.equal((await readSome(client)).toString(), 'ping');
  const end = endOf(client);
  await enforce('{ mtls: STRICT }');
  assert.equal(await end, 'ECONNRESET');
  const made = { seenAs: null, outcome: '', dialled: `${server.ipv4}:${echo.port}`, startedAtMs };
  const record = await inboundRecord(made);
  assert.deepEqual([record.reason, record.rule], ['POLICY_TERMINATED', 'Mesh/default']);
});

test('policies that ask for a principal refuse who proved none', async () => {
  await enforce('{ mtls: PERMISSIVE }');
  const rules = '[{ from: [{ source: { principals: ["*"] } }] }]';
  await mesh.apply(authorizationPolicy('shop', 'proved', `{ rules: ${rules} }`));
  const server = mesh.lab.workload('server');
  const refused = await attempt(mesh.lab.host('outside'), server.ipv4, port);
  assert.equal(refused.outcome, 'ECONNRESET');
  const record = await inboundRecord(refused);
  assert.deepEqual([record.reason, record.rule], ['POLICY_DEFAULT_DENY', 'AuthorizationPolicy/shop/proved']);
  assert.equal((await attempt(mesh.lab.workload('client'), server.ipv4, port)).outcome, 'OK');
});
