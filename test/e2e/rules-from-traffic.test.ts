import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { FlowsAnswer, StatusAnswer } from '../../controller/api/api-types.js';
import type { SetDiff } from '../../controller/analysis/diff/diff-sets.js';
import { agentMetrics, controllerMetrics } from '../docs/metric-tables.js';
import { labHttp } from '../lab/lab-http.js';
import { parseMetrics } from '../lab/metric-samples.js';
import type { LabServer } from '../lab/namespace-sockets.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { ask, HeldConnection, startEcho, type EchoTarget } from '../support/mesh/echo-traffic.js';
import { documents, meshOf, ruleWorld, segmentationRule } from '../support/mesh/rule-world.js';
import { patientMs } from '../lab/patience.js';

let mesh: Mesh;
let echoes: readonly LabServer[];

before(async () => {
  mesh = await startMesh({ topology: ruleWorld });
  const servers = [
    ['db', 5432],
    ['cache', 6379],
    ['vault', 8200],
  ] as const;
  echoes = await Promise.all(servers.map(([name, port]) => startEcho(mesh.lab.workload(name), port)));
});

after(async () => {
  await Promise.all(echoes.map((echo) => echo.close()));
  await mesh[Symbol.asyncDispose]();
});

const at = (name: string, port: number): EchoTarget => ({ ip: mesh.lab.workload(name).ipv4, port });

/** The pairs that connect, the port and how often. */
const traffic = [
  ['web', 'shop/web', 'db', 'shop/db', 5432, 6],
  ['api', 'shop/api', 'db', 'shop/db', 5432, 2],
  ['web', 'shop/web', 'cache', 'shop/cache', 6379, 3],
  ['visitor', 'guest/visitor', 'vault', 'ops/vault', 8200, 2],
] as const;

async function culvert(args: readonly string[], input?: string) {
  return mesh.controller.culvert(args, input);
}

test(
  'what was learned from traffic breaks nothing of it, and what would is named',
  { timeout: patientMs(120_000) },
  async () => {
    const startedAtMs = Date.now();
    for (const [from, , to, , port, times] of traffic) {
      for (let round = 0; round < times; round++) assert.equal(await ask(mesh.lab.workload(from), at(to, port)), 'ok');
    }
    await waitUntil(
      'both agents have told all of it',
      async () => {
        const { flows } = (await mesh.controller.api('/v1/flows')) as FlowsAnswer;
        const count = (direction: string): number =>
          flows.reduce((sum, flow) => (flow.direction === direction ? sum + flow.connections : sum), 0);
        const all = traffic.reduce((sum, [, , , , , times]) => sum + times, 0);
        return count('outbound') === all && count('inbound') === all ? true : undefined;
      },
      30_000,
    );

    const [first, second] = [await culvert(['learn', '--since', '1h']), await culvert(['learn', '--since', '1h'])];
    assert.equal(first.code, 0, first.stderr);
    assert.equal(first.stdout, second.stdout);
    const learned = first.stdout;
    for (const name of ['learned-shop-db-5432', 'learned-shop-cache-6379', 'learned-ops-vault-8200']) {
      assert.match(learned, new RegExp(`name: ${name}$`, 'm'));
    }
    await mesh.apply(learned);

    const enforced = learned.replaceAll('mode: audit', 'mode: enforce');
    const harmless = await culvert(['diff', '-f', '-', '--flows', '--since', '1h'], enforced);
    assert.equal(harmless.code, 0, harmless.stdout + harmless.stderr);
    assert.match(harmless.stdout, /\b4 recorded flows would not change, 0 would break, 0 unknown/);
    assert.match(harmless.stdout, /Newly denied:[^]*shop\/db/, 'pairs without traffic are listed too');

    const rule = segmentationRule('no-web', '{ action: deny, priority: 1, from: [{ workload: shop/web }] }');
    const breaking = await culvert(['diff', '-f', '-', '--flows', '--since', '1h'], rule);
    assert.equal(breaking.code, 2, breaking.stdout + breaking.stderr);
    assert.match(breaking.stderr, /this would deny 2 recorded flows that worked .*\[WOULD_BREAK\]/);
    assert.match(breaking.stdout, /^shop\/web +shop\/db +5432 +6 +1 +\S+ ago +.*-> SegmentationRule\/no-web$/m);
    const asked = await culvert(['diff', '-f', '-', '--flows', '--since', '1h', '-o', 'json'], rule);
    assert.equal(asked.code, 2);
    const { flows } = JSON.parse(asked.stdout) as SetDiff;
    assert.deepEqual(
      flows?.broken.map(({ source, destination, port, worked, after: decides }) => [
        source,
        destination,
        port,
        worked,
        decides,
      ]),
      [
        ['shop/web', 'shop/db', 5432, 6, 'SegmentationRule/no-web'],
        ['shop/web', 'shop/cache', 6379, 3, 'SegmentationRule/no-web'],
      ],
    );
    for (const { lastSeenMs } of flows.broken) {
      assert.ok(lastSeenMs >= startedAtMs - 1000 && lastSeenMs <= Date.now() + 1000);
    }

    // Audited, the learned rules count only what they do not allow.
    assert.equal(await ask(mesh.lab.workload('web'), at('db', 5432)), 'ok');
    assert.equal(await ask(mesh.lab.workload('visitor'), at('db', 5432)), 'ok');
    const since = (source: string) => (line: { sourceWorkload?: string; startedAt: string; requested?: string }) =>
      line.sourceWorkload === source &&
      line.requested?.endsWith(':5432') === true &&
      Date.parse(line.startedAt) > startedAtMs;
    const stranger = await mesh.agent('node2').waitForRecord('the stranger', since('guest/visitor'));
    assert.deepEqual(stranger.audited, ['SegmentationRule/learned-shop-db-others']);
    const known = mesh.agent('node2').records().filter(since('shop/web')).at(-1);
    assert.deepEqual([known?.reason, known?.audited], ['OK', undefined]);

    // All of them at once is the learned set in force: its `others` alone would break what was seen.
    const names = [...learned.matchAll(/^ {2}name: (\S+)$/gm)].map(([, name = '']) => name);
    const others = names.filter((name) => name.endsWith('-others'));
    const alone = await culvert(['promote', ...others, '--since', '1h']);
    assert.equal(alone.code, 1);
    assert.match(
      alone.stderr,
      /allowed by rules that are only audited; promote them together: culvert promote learned-\S+ /,
    );
  },
);

test(
  'an allow for a while opens, is listed, and closes by the clocks of the agents',
  { timeout: patientMs(90_000) },
  async () => {
    const visitor = mesh.lab.workload('visitor');
    const target = at('db', 5432);
    const denied = segmentationRule(
      'no-guests',
      '{ tier: platform, priority: 5, action: deny, from: [{ namespace: guest }] }',
    );
    await mesh.apply(documents(meshOf('{ defaultAction: allow }'), denied));
    assert.equal(await ask(visitor, target), 'ECONNRESET');

    const argv = ['allow', 'guest/visitor', 'shop/db:5432', '--for', '12s', '--reason', 'INC-42', '--wait', '10s'];
    const allowed = (await mesh.controller.culvertJson(argv)) as {
      readonly revision: number;
      readonly rule: { readonly metadata: { readonly name: string }; readonly spec: { readonly expiresAt: string } };
    };
    const held = await HeldConnection.open(visitor, target);
    const { name } = allowed.rule.metadata;
    const expiresAtMs = Date.parse(allowed.rule.spec.expiresAt);
    const status = await culvert(['status']);
    assert.match(status.stdout, new RegExp(`BREAK-GLASS RULE[^]*${name} +\\d+s +INC-42 +admin`));

    assert.equal(await held.ending(30_000), 'ECONNRESET');
    assert.ok(Date.now() >= expiresAtMs, 'not before its time');
    assert.equal(await ask(visitor, target), 'ECONNRESET');
    for (const [agent, direction] of [
      ['node1', 'outbound'],
      ['node2', 'inbound'],
    ] as const) {
      const cut = await mesh
        .agent(agent)
        .waitForRecord('the cut', (line) => line.direction === direction && line.reason === 'POLICY_TERMINATED');
      assert.deepEqual([cut.rule, cut.revision], [`SegmentationRule/${name}`, allowed.revision]);
      assert.match(cut.detail ?? '', /^POLICY_EXPIRED/);
      assert.equal(await mesh.agent(agent).metric('culvert_enforced_revision'), allowed.revision);
    }
    const refused = await mesh.agent('node1').waitForRecord('the refusal', ({ reason }) => reason === 'POLICY_EXPIRED');
    assert.deepEqual([refused.rule, refused.revision], [`SegmentationRule/${name}`, allowed.revision]);
    const { revision, breakGlass } = (await mesh.controller.api('/v1/status')) as StatusAnswer;
    assert.deepEqual([revision, breakGlass], [allowed.revision, []], 'no revision was needed');
  },
);

test('every metric of a running agent and controller is in the tables of the README', async () => {
  const { body } = await labHttp({
    from: mesh.controller.node,
    ip: mesh.controller.node.ipv4,
    port: 15443,
    path: '/metrics',
    isTls: true,
  });
  const shown = [
    ...(await Promise.all(mesh.agents.map((agent) => agent.metrics()))).flat(),
    ...parseMetrics(body).filter(({ name }) => !/^(?:process|nodejs)_/.test(name)),
  ];
  const described = new Set([...agentMetrics(), ...controllerMetrics()].map(({ name }) => name));
  const names = new Set(shown.map(({ name }) => name));
  assert.ok(names.size > 40, `${names.size} metrics`);
  const unknown = [...names].filter(
    (name) => !described.has(name) && !described.has(name.replace(/_(?:bucket|sum|count)$/, '')),
  );
  assert.deepEqual(unknown, []);
});
