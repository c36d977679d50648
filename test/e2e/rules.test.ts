import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { attempt, recordAtDestination, recordAtSource, serveSeenAddress } from '../support/mesh/attempt.js';
import { authorizationPolicy, documents, meshOf, ruleWorld, segmentationRule } from '../support/mesh/rule-world.js';

const ports = [5432, 6379, 8000, 8001];

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: ruleWorld });
  const servers = [...['db', 'cache', 'vault', 'api'].map((name) => mesh.lab.workload(name)), mesh.lab.host('outside')];
  await Promise.all(servers.flatMap((node) => ports.map((port) => serveSeenAddress(node, port))));
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

const slots = ['first', 'second', 'third'] as const;
const off = '{ action: deny, mode: off }';
const segment = `
apiVersion: culvert.dev/v1
kind: Segment
metadata: { name: backends }
spec: { members: [{ labels: { tier: back }, namespace: shop }, { serviceAccount: ops/vault }] }
`;

/** Puts exactly these rules in force; what an earlier case left is replaced or switched off. */
async function enforce(defaultAction: 'allow' | 'audit' | 'deny', ...specs: readonly string[]): Promise<void> {
  const rules = slots.map((name, index) => segmentationRule(name, specs[index] ?? off));
  await mesh.apply(documents(meshOf(`{ defaultAction: ${defaultAction} }`), segment, ...rules));
}

/** `source`, `destination`, port, and `allow` or `deny` by which rule. */
type Expected = readonly [source: string, destination: string, port: number, verdict: 'allow' | 'deny', rule: string];

const first = 'SegmentationRule/first';
const second = 'SegmentationRule/second';
const third = 'SegmentationRule/third';
const byDefault = 'Mesh/default';

/** Makes each connection and compares what the client saw and what both agents logged. */
async function expectVerdicts(expected: readonly Expected[], family: 'ipv4' | 'ipv6' = 'ipv4'): Promise<void> {
  await Promise.all(
    expected.map(async ([sourceName, destinationName, port, verdict, rule]) => {
      const source = mesh.lab.workload(sourceName);
      const isOutside = destinationName === 'outside';
      const destination = isOutside ? mesh.lab.host('outside') : mesh.lab.workload(destinationName);
      const what = `${sourceName} → ${destinationName}:${port}`;
      const made = await attempt(source, destination[family], port);
      const record = await recordAtSource(mesh, source, made);
      assert.equal(record.rule, rule, what);
      if (verdict === 'allow') {
        assert.deepEqual([made.outcome, record.reason], ['OK', 'OK'], what);
        if (isOutside || mesh.lab.workload(destinationName).host === source.host) return;
        const inbound = await recordAtDestination(mesh, mesh.lab.workload(destinationName), record);
        assert.deepEqual([inbound.reason, inbound.rule], ['OK', rule], what);
        return;
      }
      const reason = rule === byDefault || rule.endsWith('/only') ? 'POLICY_DEFAULT_DENY' : 'POLICY_DENY';
      assert.deepEqual([made.outcome, record.reason], ['ECONNRESET', reason], what);
      assert.match(record.next ?? '', /^culvert why /, what);
    }),
  );
}

describe('segmentation rules decide by what they name', () => {
  test('nothing passes when the default is deny and no rule allows', async () => {
    await enforce('deny');
    await expectVerdicts([
      ['web', 'db', 5432, 'deny', byDefault],
      ['web', 'api', 8000, 'deny', byDefault],
      ['web', 'outside', 8000, 'deny', byDefault],
    ]);
    await expectVerdicts([['web', 'db', 5432, 'deny', byDefault]], 'ipv6');
  });

  test('an allow opens exactly what it names', async () => {
    await enforce(
      'deny',
      '{ action: allow, from: [{ serviceAccount: shop/web }], to: [{ labels: { app: db } }], ports: [5432] }',
    );
    await expectVerdicts([
      ['web', 'db', 5432, 'allow', first],
      ['web', 'db', 6379, 'deny', byDefault],
      ['web', 'cache', 5432, 'deny', byDefault],
      ['api', 'db', 5432, 'deny', byDefault],
    ]);
    await expectVerdicts([['web', 'db', 5432, 'allow', first]], 'ipv6');
  });

  const denials: readonly [by: string, spec: string, expected: readonly Expected[]][] = [
    [
      'label',
      '{ action: deny, from: [{ labels: { tier: front } }], to: [{ labels: { app: db } }] }',
      [
        ['web', 'db', 5432, 'deny', first],
        ['api', 'db', 8001, 'deny', first],
        ['visitor', 'db', 5432, 'allow', byDefault],
        ['web', 'cache', 5432, 'allow', byDefault],
      ],
    ],
    [
      'namespace',
      '{ action: deny, from: [{ namespace: guest }], to: [{ namespace: shop }] }',
      [
        ['visitor', 'db', 5432, 'deny', first],
        ['visitor', 'api', 8000, 'deny', first],
        ['visitor', 'vault', 5432, 'allow', byDefault],
        ['web', 'db', 5432, 'allow', byDefault],
      ],
    ],
    [
      'service account',
      '{ action: deny, from: [{ serviceAccount: guest/default }], to: [{ serviceAccount: ops/vault }] }',
      [
        ['visitor', 'vault', 5432, 'deny', first],
        ['visitor', 'db', 5432, 'allow', byDefault],
        ['web', 'vault', 5432, 'allow', byDefault],
      ],
    ],
    [
      'segment',
      '{ action: deny, from: [{ workload: shop/api }], to: [{ segment: backends }] }',
      [
        ['api', 'cache', 6379, 'deny', first],
        ['api', 'vault', 6379, 'deny', first],
        ['web', 'cache', 6379, 'allow', byDefault],
        ['web', 'api', 8000, 'allow', byDefault],
      ],
    ],
    [
      'node',
      '{ action: deny, from: [{ node: node1 }], to: [{ node: node2 }] }',
      [
        ['web', 'db', 5432, 'deny', first],
        ['visitor', 'vault', 5432, 'deny', first],
        ['web', 'api', 8000, 'allow', byDefault],
        ['db', 'cache', 6379, 'allow', byDefault],
        ['db', 'api', 6379, 'allow', byDefault],
      ],
    ],
    [
      'CIDR, with an exception',
      '{ action: deny, to: [{ cidr: 198.18.12.0/24, except: [198.18.12.2] }] }',
      [
        ['web', 'cache', 6379, 'deny', first],
        ['cache', 'vault', 6379, 'deny', first],
        ['web', 'db', 5432, 'allow', byDefault],
        ['web', 'api', 8000, 'allow', byDefault],
      ],
    ],
    [
      'the address of an external host',
      '{ action: deny, to: [{ cidr: 198.18.0.201/32 }], ports: [8000] }',
      [
        ['web', 'outside', 8000, 'deny', first],
        ['web', 'outside', 8001, 'allow', byDefault],
      ],
    ],
    [
      'port and range of ports',
      '{ action: deny, to: [{ workload: shop/db }], ports: [5432, "8000-8001"] }',
      [
        ['web', 'db', 5432, 'deny', first],
        ['web', 'db', 8000, 'deny', first],
        ['web', 'db', 8001, 'deny', first],
        ['web', 'db', 6379, 'allow', byDefault],
      ],
    ],
  ];
  for (const [by, spec, expected] of denials) {
    test(`a deny by ${by} refuses that and nothing else`, async () => {
      await enforce('allow', spec);
      await expectVerdicts(expected);
    });
  }

  test('a CIDR of one family says nothing about the other', async () => {
    await enforce('allow', '{ action: deny, to: [{ cidr: 198.18.12.0/24 }] }');
    await expectVerdicts([['web', 'cache', 6379, 'deny', first]]);
    await expectVerdicts([['web', 'cache', 6379, 'allow', byDefault]], 'ipv6');
    await enforce('allow', '{ action: deny, to: [{ cidr: "fd00:c0:2::/64" }] }');
    await expectVerdicts([['web', 'cache', 6379, 'deny', first]], 'ipv6');
    await expectVerdicts([['web', 'cache', 6379, 'allow', byDefault]]);
  });

  test('pass hands the decision to the next tier, and a lower priority number goes first', async () => {
    await enforce(
      'deny',
      '{ tier: platform, priority: 1, action: pass, from: [{ serviceAccount: shop/web }] }',
      '{ tier: platform, priority: 2, action: deny }',
      '{ tier: team, action: allow, to: [{ workload: shop/db }] }',
    );
    await expectVerdicts([
      ['web', 'db', 5432, 'allow', third],
      ['web', 'cache', 5432, 'deny', byDefault],
      ['api', 'db', 5432, 'deny', second],
    ]);
  });

  test('the rules of a service are those of its endpoints and their port', async () => {
    await enforce(
      'deny',
      '{ action: allow, from: [{ workload: shop/web }], to: [{ workload: shop/db }, { workload: shop/cache }], ports: [8000] }',
    );
    const [web, api] = [mesh.lab.workload('web'), mesh.lab.workload('api')];
    const made = await attempt(web, mesh.lab.vip('store').ipv4, 80);
    const record = await recordAtSource(mesh, web, made);
    assert.deepEqual([made.outcome, record.rule, record.service], ['OK', first, 'shop/store']);
    const refused = await attempt(api, mesh.lab.vip('store').ipv4, 80);
    const denial = await recordAtSource(mesh, api, refused);
    assert.deepEqual(
      [refused.outcome, denial.reason, denial.service],
      ['ECONNRESET', 'POLICY_DEFAULT_DENY', 'shop/store'],
    );
  });
});

describe('audit lets pass, and says so', () => {
  test('a rule of mode audit is logged and counted at both ends, and blocks nothing', async () => {
    await enforce(
      'allow',
      '{ action: deny, mode: audit, from: [{ workload: shop/web }], to: [{ workload: shop/db }] }',
    );
    const [web, db] = [mesh.lab.workload('web'), mesh.lab.workload('db')];
    const agents = [mesh.agent('node1'), mesh.agent('node2')];
    const count = (): Promise<number[]> =>
      Promise.all(agents.map((agent) => agent.metric('culvert_connections_audited_total', { rule: first })));
    const before = await count();
    const made = await attempt(web, db.ipv4, 5432);
    const record = await recordAtSource(mesh, web, made);
    const inbound = await recordAtDestination(mesh, db, record);
    assert.deepEqual([made.outcome, record.reason, record.rule, record.audited], ['OK', 'OK', byDefault, [first]]);
    assert.deepEqual([inbound.reason, inbound.audited], ['OK', [first]]);
    const after = await waitUntil('both agents count it', async () => {
      const now = await count();
      return now.every((value, index) => value > (before[index] ?? 0)) ? now : undefined;
    });
    assert.deepEqual(
      after,
      before.map((value) => value + 1),
    );
    const other = await recordAtSource(mesh, web, await attempt(web, mesh.lab.workload('cache').ipv4, 5432));
    assert.equal(other.audited, undefined);
  });

  test('a default of audit lets everything pass that no rule denies, and names itself', async () => {
    await enforce('audit', '{ action: deny, to: [{ workload: shop/db }] }');
    const web = mesh.lab.workload('web');
    const record = await recordAtSource(mesh, web, await attempt(web, mesh.lab.workload('cache').ipv4, 6379));
    assert.deepEqual([record.reason, record.rule, record.audited], ['OK', byDefault, [byDefault]]);
    await expectVerdicts([['web', 'db', 5432, 'deny', first]]);
  });
});

describe('AuthorizationPolicies hold with Istio’s semantics', () => {
  const only = 'AuthorizationPolicy/shop/only';
  const never = 'AuthorizationPolicy/istio-system/never';

  before(async () => {
    await enforce('allow', '{ tier: baseline, action: deny, from: [{ workload: shop/api }] }');
  });
  after(async () => {
    await mesh.delete('AuthorizationPolicy', 'only', '-n', 'shop');
    await mesh.delete('AuthorizationPolicy', 'never', '-n', 'istio-system');
  });

  test('where an ALLOW selects a workload, one must match', async () => {
    const rules =
      '[{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/web"] } }], to: [{ operation: { ports: ["5432", "6379"] } }] }]';
    await mesh.apply(
      authorizationPolicy('shop', 'only', `{ action: ALLOW, selector: { matchLabels: { app: db } }, rules: ${rules} }`),
    );
    await expectVerdicts([
      ['web', 'db', 5432, 'allow', only],
      ['web', 'db', 8000, 'deny', only],
      ['visitor', 'db', 5432, 'deny', only],
      ['visitor', 'cache', 5432, 'allow', byDefault],
      ['api', 'cache', 5432, 'deny', first],
    ]);
  });

  test('a DENY of the root namespace holds in every namespace and goes before an ALLOW', async () => {
    const rules = '[{ to: [{ operation: { ports: ["6379"] } }] }]';
    await mesh.apply(authorizationPolicy('istio-system', 'never', `{ action: DENY, rules: ${rules} }`));
    await expectVerdicts([
      ['web', 'db', 6379, 'deny', never],
      ['web', 'db', 5432, 'allow', only],
      ['visitor', 'vault', 6379, 'deny', never],
      ['visitor', 'vault', 5432, 'allow', byDefault],
    ]);
  });
});
