import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { AccessLogLine } from '../../agent/telemetry/access-log.js';
import type { LabNode } from '../lab/lab-node.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import type { LabTopology } from '../lab/topology.js';
import { attempt, recordAtDestination, recordAtSource, serveSeenAddress } from '../support/mesh/attempt.js';

const port = 8080;
const excludedOutbound = 8085;
const excludedInbound = 8086;

const topology: LabTopology = {
  hosts: [
    {
      name: 'node1',
      workloads: [
        {
          name: 'client',
          namespace: 'shop',
          serviceAccount: 'client',
          labels: { app: 'client' },
          capture: {
            excludeOutboundPorts: [excludedOutbound],
            excludeOutboundCidrs: ['198.18.0.202/32', 'fd00:c0::202/128'],
          },
        },
        { name: 'side', namespace: 'shop', serviceAccount: 'side', labels: { app: 'side' } },
      ],
    },
    {
      name: 'node2',
      workloads: [
        {
          name: 'server',
          namespace: 'shop',
          serviceAccount: 'server',
          labels: { app: 'server', pool: 'both', half: 'dead' },
          capture: { excludeInboundPorts: [excludedInbound] },
        },
        { name: 'spare', namespace: 'shop', serviceAccount: 'spare', labels: { app: 'spare', pool: 'both' } },
        { name: 'silent', namespace: 'shop', serviceAccount: 'silent', labels: { half: 'dead' } },
        { name: 'legacy', namespace: 'shop', serviceAccount: 'legacy', labels: { app: 'legacy' }, isMeshed: false },
      ],
    },
  ],
  services: [
    { name: 'own', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { app: 'client' } },
    { name: 'both', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { pool: 'both' } },
    { name: 'half', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { half: 'dead' } },
    { name: 'empty', namespace: 'shop', ports: [{ port: 80, targetPort: port }], selector: { app: 'empty' } },
  ],
  externalHosts: ['outside', 'bypassed'],
};

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology });
  const workloads = ['client', 'side', 'server', 'spare', 'legacy'].map((name) => mesh.lab.workload(name));
  const nodes: LabNode[] = [...workloads, mesh.lab.host('outside'), mesh.lab.host('bypassed')];
  await Promise.all(nodes.map((node) => serveSeenAddress(node, port)));
  await serveSeenAddress(mesh.lab.workload('server'), excludedOutbound);
  await serveSeenAddress(mesh.lab.workload('server'), excludedInbound);
  // Strict, so that a plaintext path that works is one that is meant to.
  await mesh.apply(`
apiVersion: culvert.dev/v1
kind: Mesh
metadata: { name: default }
spec: { mtls: STRICT }
---
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: no-9000 }
spec: { action: deny, ports: [9000] }
`);
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

/** Who answered with which address of the client, and the source's record. */
async function reach(
  from: string,
  ip: string,
  to = port,
): Promise<{ readonly seenAs: string | null; readonly outcome: string; readonly record: AccessLogLine }> {
  const source = mesh.lab.workload(from);
  const made = await attempt(source, ip, to);
  return { seenAs: made.seenAs, outcome: made.outcome, record: await recordAtSource(mesh, source, made) };
}

/** No agent wrote a line about this destination since then: it was not captured. */
function recordsOf(destination: string, sinceMs: number): AccessLogLine[] {
  return mesh.agents
    .flatMap((agent) => agent.records())
    .filter((line) => line.requested === destination && Date.parse(line.startedAt) >= sinceMs);
}

for (const family of ['ipv4', 'ipv6'] as const) {
  const target = (name: string): string => mesh.lab.workload(name)[family];
  const written = (ip: string, to: number): string => (family === 'ipv6' ? `[${ip}]:${to}` : `${ip}:${to}`);

  describe(`over ${family}`, () => {
    test('a neighbour on the same host is reached without TLS, by the same rules, with the client’s address', async () => {
      const { seenAs, record } = await reach('client', target('side'));
      assert.equal(seenAs, `side ${target('client')}`);
      assert.deepEqual([record.path, record.reason, record.rule], ['local', 'OK', 'Mesh/default']);
      assert.equal(record.destinationIdentity, 'spiffe://culvert.local/ns/shop/sa/side');
      const denied = await reach('client', target('side'), 9000);
      assert.deepEqual(
        [denied.outcome, denied.record.reason, denied.record.rule],
        ['ECONNRESET', 'POLICY_DENY', 'SegmentationRule/no-9000'],
      );
    });

    test('another host is reached through a tunnel, with the client’s address', async () => {
      const { seenAs, record } = await reach('client', target('server'));
      assert.equal(seenAs, `server ${target('client')}`);
      assert.equal(record.path, 'hbone');
      const inbound = await recordAtDestination(mesh, mesh.lab.workload('server'), record);
      assert.equal(inbound.sourceIdentity, 'spiffe://culvert.local/ns/shop/sa/client');
    });

    test('a workload reaches itself through its own service', async () => {
      const { seenAs, record } = await reach('client', mesh.lab.vip('own')[family], 80);
      assert.equal(seenAs, `client ${target('client')}`);
      assert.deepEqual([record.path, record.service, record.destinationWorkload], ['local', 'shop/own', 'shop/client']);
    });

    test('a service spreads its connections over its endpoints', async () => {
      const answers = new Map<string, number>();
      for (let round = 0; round < 8; round++) {
        const { seenAs } = await attempt(mesh.lab.workload('client'), mesh.lab.vip('both')[family], 80);
        answers.set(seenAs ?? 'none', (answers.get(seenAs ?? 'none') ?? 0) + 1);
      }
      assert.deepEqual([...answers.keys()].sort(), [`server ${target('client')}`, `spare ${target('client')}`]);
      for (const count of answers.values()) assert.ok(count >= 2, `${count} of 8`);
    });

    test('an endpoint that refuses is passed over for one that answers', async () => {
      for (let round = 0; round < 4; round++) {
        const { seenAs, record } = await reach('client', mesh.lab.vip('half')[family], 80);
        assert.equal(seenAs, `server ${target('client')}`);
        assert.deepEqual([record.reason, record.destinationWorkload], ['OK', 'shop/server']);
      }
      const isRefusal = (line: AccessLogLine): boolean =>
        line.destinationAddress === written(target('silent'), port) && line.reason === 'CONNECT_REFUSED';
      await mesh.agent('node2').waitForRecord('the endpoint that refused', isRefusal);
    });

    test('an external host is dialled as it is, and sees the workload’s address', async () => {
      const { seenAs, record } = await reach('client', mesh.lab.host('outside')[family]);
      assert.equal(seenAs, `outside ${target('client')}`);
      assert.deepEqual([record.path, record.reason], ['passthrough', 'OK']);
      assert.equal(record.destinationIdentity, undefined);
    });

    test('a workload without an agent is reached in plain text, and the record says so', async () => {
      const { seenAs, record } = await reach('client', target('legacy'));
      assert.equal(seenAs, `legacy ${target('client')}`);
      assert.deepEqual([record.path, record.reason, record.destinationWorkload], ['plaintext', 'OK', 'shop/legacy']);
    });

    test('a service without that port, and one without an endpoint, have no endpoint', async () => {
      for (const [vip, to] of [
        ['both', 81],
        ['empty', 80],
      ] as const) {
        const { outcome, record } = await reach('client', mesh.lab.vip(vip)[family], to);
        assert.deepEqual([outcome, record.reason, record.service], ['ECONNRESET', 'NO_ENDPOINT', `shop/${vip}`]);
      }
    });

    for (const own of [15001, 15006, 15008]) {
      test(`a dial of port ${own} of another workload is a loop`, async () => {
        const { outcome, record } = await reach('client', target('server'), own);
        assert.deepEqual([outcome, record.reason], ['ECONNRESET', 'LOOP_DETECTED']);
      });
    }

    test('a dial of the own ports 15001 and 15006 is a loop too, never a connection to itself', async () => {
      for (const own of [15001, 15006]) {
        const startedAtMs = Date.now();
        const made = await attempt(mesh.lab.workload('client'), target('client'), own);
        assert.equal(made.outcome, 'ECONNRESET');
        const requested = written(target('client'), own);
        const isIt = (line: AccessLogLine): boolean =>
          line.requested === requested && Date.parse(line.startedAt) >= startedAtMs;
        const record = await mesh.agent('node1').waitForRecord(`the dial of ${requested}`, isIt);
        assert.equal(record.reason, 'LOOP_DETECTED');
      }
    });

    test('excluded destinations are left alone by the agent', async () => {
      const sinceMs = Date.now();
      const bypassed = mesh.lab.host('bypassed')[family];
      const direct = await attempt(mesh.lab.workload('client'), bypassed, port);
      assert.equal(direct.seenAs, `bypassed ${target('client')}`);
      const inbound = await attempt(mesh.lab.host('outside'), target('server'), excludedInbound);
      assert.equal(inbound.seenAs, `server ${mesh.lab.host('outside')[family]}`);
      // Excluded at the source only: it leaves as it is, and the strict destination refuses plain text.
      const oneSided = await attempt(mesh.lab.workload('client'), target('server'), excludedOutbound);
      assert.equal(oneSided.outcome, 'ECONNRESET');
      const refusal = await mesh
        .agent('node2')
        .waitForRecord(
          'the refusal of plain text',
          (line) =>
            line.requested === written(target('server'), excludedOutbound) && Date.parse(line.startedAt) >= sinceMs,
        );
      assert.deepEqual([refusal.path, refusal.reason, refusal.rule], ['none', 'SOURCE_UNKNOWN', 'Mesh/default']);
      assert.deepEqual(recordsOf(written(bypassed, port), sinceMs), []);
      assert.deepEqual(recordsOf(written(target('server'), excludedInbound), sinceMs), []);
    });
  });
}
