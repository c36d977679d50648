import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { AccessLogLine } from '../../agent/telemetry/access-log.js';
import type { WhyAnswer } from '../../controller/api/api-types.js';
import { formatRuleRef } from '../../shared/policy/connection.js';
import type { LabWorkload } from '../lab/lab-node.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import type { LabTopology } from '../lab/topology.js';
import { attempt, recordAtDestination, recordAtSource, serveSeenAddress } from '../support/mesh/attempt.js';
import { HeldConnection, startEcho, type EchoTarget } from '../support/mesh/echo-traffic.js';
import { documents, meshOf, segmentationRule } from '../support/mesh/rule-world.js';
import { patientMs } from '../lab/patience.js';

const port = 5432;
const numbers = Array.from({ length: 8 }, (_, index) => index + 1);
const names = numbers.map((number) => `web${number}`);

/** Sources on both hosts, each with an identity of its own, and one destination. */
const topology: LabTopology = {
  hosts: ['node1', 'node2'].map((name, host) => ({
    name,
    workloads: [
      ...(host === 1
        ? [{ name: 'db', namespace: 'shop', serviceAccount: 'db', labels: { app: 'db' } }]
        : [{ name: 'spare', namespace: 'shop', serviceAccount: 'spare', labels: { app: 'db' } }]),
      ...names
        .filter((_, index) => (index % 4 === 3) === (host === 1))
        .map((web) => ({ name: web, namespace: 'shop', serviceAccount: web, labels: { app: 'web' } })),
    ],
  })),
};

const ruleName = 'SegmentationRule/rolled-out';
const byDefault = 'Mesh/default';

let mesh: Mesh;
let db: LabWorkload;
let held: EchoTarget;

before(async () => {
  mesh = await startMesh({ topology, agentArgs: ['--drain-timeout', '1s'] });
  db = mesh.lab.workload('db');
  await serveSeenAddress(db, port);
  held = { ip: db.ipv4, port: (await startEcho(db)).port };
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

async function rollOut(action: 'allow' | 'deny', rollout: number): Promise<number> {
  const spec = `{ action: ${action}, from: [{ labels: { app: web } }], to: [{ labels: { app: db } }], rollout: ${rollout} }`;
  return await mesh.apply(documents(meshOf('{ defaultAction: allow }'), segmentationRule('rolled-out', spec)));
}

type Seen = { readonly outcome: string; readonly records: readonly AccessLogLine[] };

/** One connection of a source, with the record of each agent that saw it. */
async function connectionOf(name: string): Promise<Seen> {
  const source = mesh.lab.workload(name);
  const made = await attempt(source, db.ipv4, port);
  const record = await recordAtSource(mesh, source, made);
  const isSeenTwice = source.host !== db.host && made.outcome === 'OK';
  const records = [record, ...(isSeenTwice ? [await recordAtDestination(mesh, db, record)] : [])];
  return { outcome: made.outcome, records };
}

/** The sources that the denial is enforced for. Each of the others must pass, and be audited by every agent. */
async function deniedSources(): Promise<string[]> {
  const denied = await Promise.all(
    names.map(async (name) => {
      const { outcome, records } = await connectionOf(name);
      const isDenied = outcome !== 'OK';
      for (const { reason, rule, audited } of records) {
        const expected = isDenied ? ['POLICY_DENY', ruleName, undefined] : ['OK', byDefault, [ruleName]];
        assert.deepEqual([reason, rule, audited], expected, name);
      }
      if (isDenied) assert.equal(outcome, 'ECONNRESET', name);
      return isDenied ? [name] : [];
    }),
  );
  return denied.flat();
}

/** The sources for which `culvert why` says that the rule decides. */
async function explainedAsInside(): Promise<string[]> {
  const inside = await Promise.all(
    names.map(async (name) => {
      const query = `source=shop/${name}&destination=${db.ipv4}&port=${port}`;
      const { decision } = (await mesh.controller.api(`/v1/why?${query}`)) as WhyAnswer;
      return formatRuleRef(decision.rule) === ruleName ? [name] : [];
    }),
  );
  return inside.flat();
}

test('an allow of 50 % decides for the same sources at both agents', { timeout: patientMs(60_000) }, async () => {
  await rollOut('allow', 50);
  const inside = await explainedAsInside();
  assert.ok(inside.length > 0 && inside.length < names.length, inside.join(' '));
  await Promise.all(
    names.map(async (name) => {
      const { outcome, records } = await connectionOf(name);
      const expected = inside.includes(name) ? ruleName : byDefault;
      assert.equal(outcome, 'OK', name);
      for (const { rule, audited } of records) assert.deepEqual([rule, audited], [expected, undefined], name);
    }),
  );
});

test(
  'a denial of 50 % holds for the same sources after agents and controller were restarted',
  { timeout: patientMs(90_000) },
  async () => {
    await rollOut('deny', 50);
    const inside = await deniedSources();
    assert.deepEqual(inside, await explainedAsInside());
    assert.ok(inside.length > 0 && inside.length < names.length, inside.join(' '));

    await Promise.all(
      mesh.agents.map(async (agent) => {
        await agent.stop();
        await agent.start();
        await agent.waitReady();
      }),
    );
    assert.deepEqual(await deniedSources(), inside);

    await mesh.controller.stop();
    await mesh.controller.start();
    assert.deepEqual(await deniedSources(), inside);
    // A new revision of a new controller.
    await mesh.apply(segmentationRule('aside', '{ action: deny, from: [{ namespace: unused }] }'));
    assert.deepEqual(await explainedAsInside(), inside);
    assert.deepEqual(await deniedSources(), inside);
  },
);

test(
  'a higher share only adds sources, and cuts what these have open at both ends',
  { timeout: patientMs(60_000) },
  async () => {
    await rollOut('deny', 50);
    const half = await deniedSources();
    const connections = await Promise.all(
      names
        .filter((name) => !half.includes(name))
        .map(async (name) => ({ name, connection: await HeldConnection.open(mesh.lab.workload(name), held) })),
    );
    let before = half;
    for (const share of [80, 100]) {
      const revision = await rollOut('deny', share);
      const denied = await deniedSources();
      assert.deepEqual(
        before.filter((name) => !denied.includes(name)),
        [],
        `who was in at less is in at ${share} %`,
      );
      const added = connections.filter(({ name }) => denied.includes(name) && !before.includes(name));
      await Promise.all(added.map(({ name, connection }) => expectCut(name, connection, revision)));
      const spared = connections.filter(({ name }) => !denied.includes(name));
      await Promise.all(spared.map(({ connection }) => connection.exchange()));
      before = denied;
    }
    assert.deepEqual(before, names, 'at 100 % all are in');
  },
);

async function expectCut(name: string, connection: HeldConnection, revision: number): Promise<void> {
  const source = mesh.lab.workload(name);
  assert.equal(await connection.ending(), 'ECONNRESET', name);
  const requested = `${held.ip}:${held.port}`;
  const isIt = (line: AccessLogLine): boolean =>
    line.sourceWorkload === source.meshName && line.requested === requested && line.revision === revision;
  for (const host of new Set([source.host, db.host])) {
    const record = await mesh.agent(host).waitForRecord(`the cut of ${name}`, isIt);
    assert.deepEqual([record.reason, record.rule], ['POLICY_TERMINATED', ruleName], `${name} on ${host}`);
  }
}
