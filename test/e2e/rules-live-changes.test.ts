import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync, type Stats, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { after, before, beforeEach, test } from 'node:test';
import type { AccessLogLine } from '../../agent/telemetry/access-log.js';
import type { LabNode } from '../lab/lab-node.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import type { MeshAgent } from '../lab/mesh-agent.js';
import { waitUntil } from '../lab/wait-until.js';
import { recordAtDestination, recordAtSource } from '../support/mesh/attempt.js';
import { documents, meshOf, ruleWorld, segmentationRule } from '../support/mesh/rule-world.js';
import { endOf, readSome } from '../support/mesh/two-hosts.js';

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: ruleWorld });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

const allowWeb = '{ action: allow, from: [{ labels: { app: web } }], to: [{ labels: { tier: back } }] }';

/** Only what the rule `live` allows passes, and every workload is as the topology has it. */
beforeEach(async () => {
  await mesh.apply(
    documents(mesh.lab.resources(), meshOf('{ defaultAction: deny }'), segmentationRule('live', allowWeb)),
  );
});

type Open = {
  readonly client: Socket;
  readonly server: Socket;
  /** A round trip of both: rejects when the connection is broken. */
  readonly talk: () => Promise<void>;
  readonly startedAtMs: number;
  readonly dialled: string;
};

async function open(from: LabNode, to: LabNode): Promise<Open> {
  const startedAtMs = Date.now();
  let take: (socket: Socket) => void = () => {};
  const accepted = new Promise<Socket>((resolve) => (take = resolve));
  const listener = await to.listen({}, (socket) => take(socket));
  const client = await from.connect({ ip: to.ipv4, port: listener.port });
  const refused = once(client, 'close').then(() => {
    throw new Error('the connection was refused');
  });
  refused.catch(() => {});
  const server = await Promise.race([accepted, refused]).finally(() => listener.server.close());
  const talk = async (): Promise<void> => {
    client.write('ping');
    assert.equal((await readSome(server)).toString(), 'ping');
    server.write('pong');
    assert.equal((await readSome(client)).toString(), 'pong');
  };
  await talk();
  return { client, server, talk, startedAtMs, dialled: `${to.ipv4}:${listener.port}` };
}

/** Both ends of the connection are reset, and both records of it say this. Returns them. */
async function expectCut(
  source: string,
  destination: string,
  connection: Open,
  expected: { readonly reason: string; readonly rule: string },
  change: () => Promise<unknown>,
): Promise<AccessLogLine> {
  const [from, to] = [mesh.lab.workload(source), mesh.lab.workload(destination)];
  const ends = Promise.all([endOf(connection.client), endOf(connection.server)]);
  await change();
  assert.deepEqual(await ends, ['ECONNRESET', 'ECONNRESET']);
  const made = { seenAs: null, outcome: '', dialled: connection.dialled, startedAtMs: connection.startedAtMs };
  const record = await recordAtSource(mesh, from, made);
  assert.deepEqual({ reason: record.reason, rule: record.rule ?? '' }, expected, JSON.stringify(record));
  if (from.host === to.host) return record;
  const inbound = await recordAtDestination(mesh, to, record);
  assert.deepEqual({ reason: inbound.reason, rule: inbound.rule ?? '' }, expected, JSON.stringify(inbound));
  assert.deepEqual([inbound.bytesSent, inbound.bytesReceived], [record.bytesSent, record.bytesReceived]);
  return record;
}

function workloadDocument(name: string): string {
  const found = mesh.lab
    .resources()
    .split('---\n')
    .find((text) => text.includes('kind: Workload') && text.includes(`  name: ${name}\n`));
  assert.ok(found !== undefined, `the topology has no workload ${name}`);
  return found;
}

test('a connection that a new rule forbids is reset at both ends, and both name the rule', async () => {
  const [web, db, cache] = [mesh.lab.workload('web'), mesh.lab.workload('db'), mesh.lab.workload('cache')];
  const [doomed, spared] = [await open(web, db), await open(web, cache)];
  const deny = segmentationRule('live', '{ tier: platform, action: deny, to: [{ workload: shop/db }] }');
  const others = segmentationRule('others', '{ tier: team, action: allow, from: [{ workload: shop/web }] }');
  const before = await mesh.agent('node1').metric('culvert_connections_denied_total', { reason: 'POLICY_TERMINATED' });
  await expectCut('web', 'db', doomed, { reason: 'POLICY_TERMINATED', rule: 'SegmentationRule/live' }, () =>
    mesh.apply(documents(deny, others)),
  );
  await spared.talk();
  await waitUntil('the cut is counted', async () => {
    const labels = { reason: 'POLICY_TERMINATED', rule: 'SegmentationRule/live' };
    return (await mesh.agent('node1').metric('culvert_connections_denied_total', labels)) > before ? true : undefined;
  });
  await mesh.delete('SegmentationRule', 'others');
});

test('a connection whose rule is deleted is reset at both ends by what decides now', async () => {
  const connection = await open(mesh.lab.workload('web'), mesh.lab.workload('db'));
  await expectCut('web', 'db', connection, { reason: 'POLICY_TERMINATED', rule: 'Mesh/default' }, () =>
    mesh.delete('SegmentationRule', 'live'),
  );
});

test('a change that is not about a connection leaves it alone', async () => {
  const connection = await open(mesh.lab.workload('web'), mesh.lab.workload('db'));
  await mesh.apply(segmentationRule('aside', '{ tier: platform, action: deny, from: [{ namespace: guest }] }'));
  await connection.talk();
  // Another rule now allows it: it lives on, and its record names that one.
  await mesh.apply(segmentationRule('aside', '{ tier: platform, action: allow, from: [{ workload: shop/web }] }'));
  await mesh.delete('SegmentationRule', 'live');
  await connection.talk();
  // A rule that would deny, but only in audit mode, cuts nothing.
  await mesh.apply(segmentationRule('live', '{ tier: platform, priority: 1, action: deny, mode: audit }'));
  await connection.talk();
  const ends = Promise.all([endOf(connection.client), endOf(connection.server)]);
  connection.client.end();
  connection.server.end();
  assert.deepEqual(await ends, ['end', 'end']);
  const made = { seenAs: null, outcome: '', dialled: connection.dialled, startedAtMs: connection.startedAtMs };
  const record = await recordAtSource(mesh, mesh.lab.workload('web'), made);
  const inbound = await recordAtDestination(mesh, mesh.lab.workload('db'), record);
  for (const { reason, rule, audited } of [record, inbound]) {
    assert.deepEqual([reason, rule, audited], ['OK', 'SegmentationRule/aside', ['SegmentationRule/live']]);
  }
  await mesh.delete('SegmentationRule', 'aside');
});

for (const name of ['web', 'db']) {
  test(`labels of ${name} that the rule no longer matches cut the connection at both ends, with one reason`, async () => {
    const connection = await open(mesh.lab.workload('web'), mesh.lab.workload('db'));
    const changed = workloadDocument(name).replace('app: web', 'app: retired').replace('tier: back', 'tier: none');
    await expectCut('web', 'db', connection, { reason: 'POLICY_TERMINATED', rule: 'Mesh/default' }, () =>
      mesh.controller.culvertJson(['apply', '-f', '-'], changed),
    );
  });
}

test('labels that are of no interest to any rule leave the connection alone', async () => {
  const connection = await open(mesh.lab.workload('web'), mesh.lab.workload('db'));
  await mesh.apply(workloadDocument('web').replace('tier: front', 'tier: front\n    canary: "yes"'));
  await connection.talk();
  connection.client.destroy();
  connection.server.destroy();
});

for (const name of ['web', 'db']) {
  test(`another identity of ${name} ends the connections of the old one, at both ends`, async () => {
    const connection = await open(mesh.lab.workload('web'), mesh.lab.workload('db'));
    const changed = workloadDocument(name).replace(/serviceAccount: \w+/, 'serviceAccount: renamed');
    await expectCut('web', 'db', connection, { reason: 'CERT_REVOKED', rule: 'SegmentationRule/live' }, () =>
      mesh.controller.culvertJson(['apply', '-f', '-'], changed),
    );
    await reachable('web', 'db');
    await mesh.apply(workloadDocument(name));
    await reachable('web', 'db');
  });
}

/** After a change of identity a certificate has to be fetched first. */
async function reachable(source: string, destination: string): Promise<void> {
  await waitUntil(`${source} reaches ${destination} again`, async () => {
    const again = await open(mesh.lab.workload(source), mesh.lab.workload(destination)).catch(() => undefined);
    again?.client.destroy();
    again?.server.destroy();
    return again;
  });
}

test('connections between workloads of one host and to the outside are cut as well', async () => {
  const outside = mesh.lab.host('outside');
  await mesh.apply(segmentationRule('live', '{ action: allow, from: [{ workload: shop/web }] }'));
  const local = await open(mesh.lab.workload('web'), mesh.lab.workload('api'));
  const external = await open(mesh.lab.workload('web'), outside);
  const ends = Promise.all([endOf(external.client), endOf(external.server)]);
  await expectCut('web', 'api', local, { reason: 'POLICY_TERMINATED', rule: 'SegmentationRule/live' }, () =>
    mesh.apply(segmentationRule('live', '{ action: deny }')),
  );
  assert.deepEqual(await ends, ['ECONNRESET', 'ECONNRESET']);
});

test('a default that becomes deny cuts what only the default let pass', async () => {
  await mesh.apply(meshOf('{ defaultAction: allow }'));
  const [byRule, byDefault] = [
    await open(mesh.lab.workload('web'), mesh.lab.workload('db')),
    await open(mesh.lab.workload('api'), mesh.lab.workload('db')),
  ];
  await mesh.apply(meshOf('{ defaultAction: audit }'));
  await byDefault.talk();
  await expectCut('api', 'db', byDefault, { reason: 'POLICY_TERMINATED', rule: 'Mesh/default' }, () =>
    mesh.apply(meshOf('{ defaultAction: deny }')),
  );
  await byRule.talk();
});

function holdsNamespace(agent: MeshAgent, namespace: Stats): boolean {
  const directory = `/proc/${agent.process.pid}/fd`;
  return readdirSync(directory).some((fd) => {
    const held = statSync(`${directory}/${fd}`, { throwIfNoEntry: false });
    return held?.ino === namespace.ino && held.dev === namespace.dev;
  });
}

test('a deleted workload loses its connections, its rules and the hold on its namespace', async () => {
  const [web, vault, cache] = [mesh.lab.workload('web'), mesh.lab.workload('vault'), mesh.lab.workload('cache')];
  const node2 = mesh.agent('node2');
  const connection = await open(web, vault);
  const spared = await open(web, cache);
  const namespace = statSync(vault.netnsPath);
  assert.ok(holdsNamespace(node2, namespace));
  assert.match(await vault.check(['iptables-save', '-t', 'nat']), /CULVERT_/);
  const ends = Promise.all([endOf(connection.client), endOf(connection.server)]);
  await mesh.delete('Workload', 'vault', '-n', 'ops');
  assert.deepEqual(await ends, ['ECONNRESET', 'ECONNRESET']);
  await waitUntil('the agent lets go of the namespace', () => (holdsNamespace(node2, namespace) ? undefined : true));
  await waitUntil('no rule is left in the namespace', async () => {
    const rules = await vault.check(['iptables-save']);
    return rules.includes('CULVERT') || rules.includes('culvert') ? undefined : true;
  });
  await spared.talk();

  // Deleting the namespace really ends it: nothing of the agent keeps its link alive.
  const link = await vault.check(['cat', '/sys/class/net/eth0/iflink']);
  await vault.close();
  const host = mesh.lab.host('node2');
  await mesh.lab.host('node2').check(['ip', 'netns', 'del', vault.netns]);
  await waitUntil('the link of the namespace is gone', async () => {
    const links = await host.check(['ip', '-o', 'link']);
    return links.split('\n').some((line) => line.startsWith(`${link.trim()}:`)) ? undefined : true;
  });
  await spared.talk();
});
