import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type {
  ApplyAnswer,
  FlowsAnswer,
  HistoryDetail,
  HistoryItem,
  RollbackAnswer,
  RolloutAnswer,
} from '../../controller/api/api-types.js';
import type { AuditedRule } from '../../controller/analysis/flows/audit-report.js';
import type { Resource } from '../../controller/resources/kinds/resource.js';
import type { LabServer } from '../lab/namespace-sockets.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { ask, HeldConnection, startEcho, type EchoTarget } from '../support/mesh/echo-traffic.js';
import { documents, meshOf, ruleWorld, segmentationRule } from '../support/mesh/rule-world.js';
import { patientMs } from '../lab/patience.js';

let mesh: Mesh;
let echo: LabServer;
let target: EchoTarget;

before(async () => {
  mesh = await startMesh({ topology: ruleWorld });
  const server = mesh.lab.workload('db');
  echo = await startEcho(server);
  target = { ip: server.ipv4, port: echo.port };
});

after(async () => {
  await echo.close();
  await mesh[Symbol.asyncDispose]();
});

const peers = 'from: [{ labels: { app: web } }], to: [{ labels: { tier: back } }]';

async function applyRules(...rules: readonly string[]): Promise<number> {
  return await mesh.apply(documents(mesh.lab.resources(), meshOf('{ defaultAction: allow }'), ...rules));
}

const noBack = (fields: string): string => segmentationRule('lifecycle', `{ action: deny, ${peers}, ${fields} }`);

const story = 'SegmentationRule/no-back';

/** `culvert …`, which must end with 0; resolves with what it answered as JSON. */
async function culvert<T>(...args: readonly string[]): Promise<T> {
  return (await mesh.controller.culvertJson(args)) as T;
}

/** Both agents wrote this of the connections from web to the echo server, in that revision. */
async function bothSay(
  revision: number,
  expected: { readonly reason: string; readonly rule: string; readonly audited?: readonly string[] },
): Promise<void> {
  for (const [agent, direction] of [
    ['node1', 'outbound'],
    ['node2', 'inbound'],
  ] as const) {
    const record = await mesh
      .agent(agent)
      .waitForRecord(
        `${expected.reason} in revision ${revision}`,
        (line) =>
          line.revision === revision &&
          line.direction === direction &&
          line.sourceWorkload === 'shop/web' &&
          line.requested === `${target.ip}:${target.port}`,
      );
    const { reason, rule, audited } = record;
    assert.deepEqual({ reason, rule, ...(audited === undefined ? {} : { audited }) }, expected, agent);
  }
}

/** Of both agents, by the rule of the story. */
async function counted(metric: 'audited' | 'denied', labels: Readonly<Record<string, string>> = {}): Promise<number[]> {
  const name = `culvert_connections_${metric}_total`;
  return await Promise.all(mesh.agents.map((agent) => agent.metric(name, { ...labels, rule: story })));
}

async function waitForCount(metric: 'audited' | 'denied', wanted: readonly number[], labels = {}): Promise<void> {
  let last: readonly number[] = [];
  await waitUntil(`${metric} counts ${wanted.join(' and ')}`, async () => {
    last = await counted(metric, labels);
    return String(last) === String(wanted) ? true : undefined;
  }).catch((cause: unknown) => {
    throw new Error(`${metric} connections are ${last.join(' and ')}`, { cause });
  });
}

async function isComplete(revision: number): Promise<void> {
  const rollout = await culvert<RolloutAnswer>('rollout', 'status', '--revision', String(revision), '--wait', '20s');
  assert.deepEqual([rollout.revision, rollout.isComplete], [revision, true]);
  assert.deepEqual(
    rollout.agents.map(({ node, state }) => `${node} ${state}`),
    ['node1 done', 'node2 done'],
  );
}

test(
  'a rule is audited, promoted, denies and cuts, and is rolled back, by commands',
  { timeout: patientMs(120_000) },
  async () => {
    const web = mesh.lab.workload('web');
    const audited = await applyRules(
      segmentationRule('no-back', `{ action: deny, mode: audit, ${peers}, reason: INC-42 }`),
    );
    await isComplete(audited);
    for (let round = 0; round < 3; round++) assert.equal(await ask(web, target), 'ok');
    await bothSay(audited, { reason: 'OK', rule: 'Mesh/default', audited: [story] });
    await waitForCount('audited', [3, 3]);

    // Before anybody is hurt: what it would have denied, and that it may not be promoted for that.
    await waitUntil(
      'both agents reported the connections',
      async () => {
        const { flows } = (await mesh.controller.api('/v1/flows')) as FlowsAnswer;
        const told = flows
          .filter((flow) => flow.audited.includes(story))
          .reduce((sum, flow) => sum + flow.connections, 0);
        return told === 6 ? true : undefined;
      },
      20_000,
    );
    const report = await culvert<AuditedRule[]>('audit', '--since', '1h');
    assert.deepEqual(
      report.map(({ rule, connections, pairs }) => [rule, connections, pairs.length]),
      [[story, 3, 1]],
    );
    const { source, destination, port, connections } = report[0]?.pairs[0] ?? {};
    assert.deepEqual([source, destination, port, connections], ['shop/web', 'shop/db', target.port, 3]);
    const held = await HeldConnection.open(web, target);
    const refused = await mesh.controller.culvert(['promote', 'no-back', '--since', '1h']);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /would break:\n[^]*shop\/web +shop\/db[^]*WOULD_BREAK/);
    const [newest] = await culvert<HistoryItem[]>('history', '--limit', '1');
    assert.equal(newest?.revision, audited, 'nothing was changed');
    await held.exchange();

    const { revision: enforced } = await culvert<ApplyAnswer>('promote', 'no-back', '--since', '1h', '--force');
    assert.equal(await held.ending(), 'ECONNRESET');
    await isComplete(enforced);
    assert.equal(enforced, audited + 1);
    await bothSay(enforced, { reason: 'POLICY_TERMINATED', rule: story });
    await waitForCount('denied', [1, 1], { reason: 'POLICY_TERMINATED' });
    assert.equal(await ask(web, target), 'ECONNRESET');
    await mesh.agent('node1').waitForRecord('the denial', ({ reason, rule, revision }) => {
      return reason === 'POLICY_DENY' && rule === story && revision === enforced;
    });
    await waitForCount('denied', [1, 0], { reason: 'POLICY_DENY' });
    const detail = await culvert<HistoryDetail>('history', String(enforced));
    assert.equal(detail.message, 'promote no-back');
    assert.deepEqual(
      detail.documents.map(({ kind, name, change, before, after }) => [
        kind,
        name,
        change,
        modeOf(before),
        modeOf(after),
      ]),
      [['SegmentationRule', 'no-back', 'configured', 'audit', 'enforce']],
    );

    const reason = 'it hurt the shop';
    const rolledBack = await culvert<RollbackAnswer>('rollback', String(audited), '-m', reason, '--wait', '20s');
    assert.deepEqual([rolledBack.rollbackOf, rolledBack.revision], [audited, enforced + 1]);
    await isComplete(rolledBack.revision);
    assert.equal(await ask(web, target), 'ok');
    await bothSay(rolledBack.revision, { reason: 'OK', rule: 'Mesh/default', audited: [story] });
    const [back, promoted] = await culvert<HistoryItem[]>('history', '--limit', '2');
    assert.deepEqual([back?.rollbackOf, back?.message, promoted?.revision], [audited, reason, enforced]);
    await waitForCount('audited', [4, 4]);
  },
);

const modeOf = (resource: Resource | null): string =>
  resource?.kind === 'SegmentationRule' ? resource.spec.mode : 'none';

test('a rule that breaks nothing that was seen is promoted without force', { timeout: patientMs(60_000) }, async () => {
  const [visitor, db] = [mesh.lab.workload('visitor'), mesh.lab.workload('db')];
  const guests = '{ action: deny, mode: audit, from: [{ namespace: guest }], to: [{ workload: shop/db }] }';
  await mesh.apply(segmentationRule('no-guests', guests));
  assert.equal(await ask(mesh.lab.workload('api'), target), 'ok');
  const { revision } = await culvert<ApplyAnswer>('promote', 'no-guests', '--since', '1h');
  await isComplete(revision);
  assert.equal(await ask(visitor, { ip: db.ipv4, port: target.port }), 'ECONNRESET');
  await mesh.delete('SegmentationRule', 'no-guests');
  await mesh.delete('SegmentationRule', 'no-back');
});

test('a rule that drains gives open connections its grace, and new ones none', async () => {
  const web = mesh.lab.workload('web');
  await applyRules(noBack('mode: audit'));
  const held = await HeldConnection.open(web, target);
  await applyRules(noBack('onChange: drain 2s'));
  await held.exchange();
  assert.equal(await ask(web, target), 'ECONNRESET');
  assert.equal(await held.ending(4000), 'ECONNRESET');
});

test('a rule that keeps lets open connections live, and new ones not begin', async () => {
  const web = mesh.lab.workload('web');
  await applyRules(noBack('mode: audit'));
  const held = await HeldConnection.open(web, target);
  await applyRules(noBack('onChange: keep'));
  assert.equal(await ask(web, target), 'ECONNRESET');
  await held.exchange();
  assert.equal(await held.close(), 'end');
});

test('what a rule allows until an instant ends then, without a new revision', async () => {
  const web = mesh.lab.workload('web');
  const expiresAtMs = Date.now() + 6000;
  const allow = `{ action: allow, priority: 1, ${peers}, expiresAt: "${new Date(expiresAtMs).toISOString()}" }`;
  const revision = await applyRules(segmentationRule('for-now', allow), noBack('priority: 2'));
  const held = await HeldConnection.open(web, target);
  assert.equal(await held.ending(10_000), 'ECONNRESET');
  assert.ok(Date.now() >= expiresAtMs);
  assert.equal(await ask(web, target), 'ECONNRESET');
  const refused = await mesh
    .agent('node1')
    .waitForRecord(
      'the expiry',
      ({ reason, rule }) => reason === 'POLICY_EXPIRED' && rule?.endsWith('for-now') === true,
    );
  assert.equal(refused.revision, revision);
});
