import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { auditReport } from '../../../../controller/analysis/flows/audit-report.js';
import { diffFlows } from '../../../../controller/analysis/flows/diff-flows.js';
import { diffSets } from '../../../../controller/analysis/diff/diff-sets.js';
import { learnRules, type Learned } from '../../../../controller/analysis/learn/learn-rules.js';
import { promoteCheck } from '../../../../controller/analysis/flows/promote-check.js';
import { renderLearned } from '../../../../controller/analysis/learn/render-learned.js';
import type { RuleSet } from '../../../../controller/analysis/pairs/rule-set.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import type { Resource } from '../../../../controller/resources/kinds/resource.js';
import { compileSnapshot } from '../../../../controller/compile/compile-snapshot.js';
import type { Snapshot } from '../../../../shared/policy/snapshot.js';
import type { FlowRecord } from '../../../../shared/wire/flows.js';
import { registryService, workloadEntry } from '../../../support/rules/analysis-fixture.js';
import { flow, outside, recordsOf, talks } from '../../../support/rules/analysis-flow-world.js';
import { clocks, endsOf, registries, snapshots } from '../../../support/rules/analysis-world.js';
import { clock, snapshotOf, trustDomain } from '../../../support/rules/policy-fixture.js';
import { nodeNamed, workloadNamed } from '../../../support/routing/names.js';
import { propertyHits, propertyRuns } from '../../../support/property-runs.js';

/** On the node whose agent records, unless `init` says another one. */
function entryAt(
  name: string,
  addresses: readonly string[],
  init?: Parameters<typeof workloadEntry>[2],
): ReturnType<typeof workloadEntry> {
  return workloadEntry(name, addresses, { node: nodeNamed('n1'), ...init });
}

const entries = [
  entryAt('billing/api', ['198.18.0.1']),
  entryAt('billing/db', ['198.18.0.2', 'fd00::2']),
  entryAt('shop/web', ['198.18.1.1']),
  entryAt('legacy/box', ['198.18.2.1'], { node: null }),
  registryService('billing/database', {
    vips: [],
    ports: [
      { port: 5000, targetPort: 5432 },
      { port: 5001, targetPort: 9 },
    ],
    selector: { app: 'db' },
  }),
];
const [api, db, web] = ['billing/api', 'billing/db', 'shop/web'].map((workload) => {
  const entry = entries.find(({ namespace, name }) => `${namespace}/${name}` === workload);
  return { workload, identity: entry?.kind === 'workload' ? entry.identity : null, cidr: null };
}) as [FlowRecord['source'], FlowRecord['source'], FlowRecord['source']];

const open = snapshotOf({ mesh: { defaultAction: 'allow', outbound: 'allow' } });
const closed = snapshotOf({
  rules: [{ name: 'api', from: [{ serviceAccounts: ['billing/api'] }], ports: [[5432, 5432]] }],
  mesh: { outbound: 'deny' },
});

function difference(flows: readonly FlowRecord[], after: Snapshot, before = open) {
  return diffFlows({ before: { snapshot: before, entries }, after: { snapshot: after, entries }, flows, clock });
}

describe('recorded flows against a proposed set', () => {
  it('are broken, opened or unchanged, counted once though both agents recorded them', () => {
    const seen = flow({ source: web, destination: db, connections: 7, lastSeenMs: 5 });
    const both = [
      seen,
      { ...seen, direction: 'inbound' as const, connections: 6, lastSeenMs: 9 },
      flow({ source: api, destination: db }),
    ];
    const { broken, opened, unknown, unchanged } = difference(both, closed);
    assert.deepEqual(broken, [
      {
        source: 'shop/web',
        destination: 'billing/db',
        port: 5432,
        allowed: 7,
        denied: 0,
        worked: 7,
        daysSeen: 1,
        lastSeenMs: 9,
        toldBy: null,
        before: 'Mesh/default',
        after: 'Mesh/default',
      },
    ]);
    assert.deepEqual([opened, unknown, unchanged], [[], [], 1]);
    const back = difference([{ ...seen, verdict: 'deny', reason: 'POLICY_DEFAULT_DENY' }], open, closed);
    assert.deepEqual(
      back.opened.map(({ source, denied }) => [source, denied]),
      [['shop/web', 7]],
    );
  });

  it('leave out probes of a host, which no rule decides', () => {
    const probe = flow({ source: outside('198.18.0.0/24'), destination: db, direction: 'inbound', probe: true });
    assert.deepEqual(difference([probe], closed), difference([], closed));
    const learned = learnRules({ flows: [probe], entries, trustDomain, externals: [] });
    assert.deepEqual([learned.rules, learned.notLearned], [[], []]);
  });

  it('are not broken when they never reached an application', () => {
    assert.deepEqual(
      difference([flow({ source: web, destination: db, reason: 'CONNECT_REFUSED' })], closed).broken,
      [],
    );
  });

  const doubtful: [string, FlowRecord, Snapshot, RegExp][] = [
    [
      'a workload is gone',
      flow({ source: web, destination: { ...db, workload: workloadNamed('billing/old') } }),
      closed,
      /billing\/old is not registered/,
    ],
    [
      'a workload had another identity',
      flow({ source: { ...web, identity: api.identity }, destination: db }),
      closed,
      /had another identity/,
    ],
    ['the port is not recorded', flow({ source: web, destination: db, port: 0 }), closed, /does not say the port/],
    [
      'a rule cuts the class of an address',
      flow({ source: web, destination: outside('203.0.113.0/24') }),
      snapshotOf({ rules: [{ to: [{ cidrs: ['203.0.113.128/25'] }] }], mesh: { outbound: 'deny' } }),
      /addresses within 203\.0\.113\.0\/24 apart/,
    ],
    [
      'a ServiceEntry is gone',
      flow({ source: web, destination: outside('shop/payments') }),
      closed,
      /no ServiceEntry is called shop\/payments/,
    ],
    [
      'nothing is known of an end',
      flow({ source: web, destination: { workload: null, identity: null, cidr: null } }),
      closed,
      /does not say who the destination was/,
    ],
  ];
  for (const [name, record, after, why] of doubtful) {
    it(`are unknown when ${name}`, () => {
      const { unknown, broken } = difference([record], after);
      assert.deepEqual(broken, []);
      assert.match(unknown[0]?.why ?? '', why);
    });
  }

  it('are unknown when a rule is rolled out to a part of the addresses that the record stands for', () => {
    const half = { name: 'half', action: 'deny', rollout: 50, from: [{ cidrs: ['203.0.113.0/24'] }] } as const;
    const after = snapshotOf({ rules: [half], mesh: { defaultAction: 'allow' } });
    const from = (cidr: string) =>
      difference([flow({ source: outside(cidr), destination: db, direction: 'inbound' })], after);
    assert.match(from('203.0.113.0/24').unknown[0]?.why ?? '', /for a part of the sources/);
    assert.equal(from('198.51.100.0/24').unchanged, 1);
  });

  it('tell that a rule would newly audit them', () => {
    const audit = snapshotOf({
      rules: [{ name: 'a', mode: 'audit', action: 'deny', to: [{ workloads: ['billing/db'] }] }],
      mesh: { defaultAction: 'allow' },
    });
    const { newlyAudited } = difference([flow({ source: web, destination: db })], audit);
    assert.deepEqual(
      newlyAudited.map(({ after }) => after),
      ['SegmentationRule/a'],
    );
  });

  it('agree with the evaluator wherever they are not unknown', () => {
    let certain = 0;
    fc.assert(
      fc.property(snapshots, snapshots, registries, talks, clocks, (old, fresh, registered, who, time) => {
        const before = { snapshot: old, entries: registered };
        const after = { snapshot: fresh, entries: registered };
        const ends = endsOf(before);
        for (const talk of who) {
          const pair = pairOf(ends, talk);
          const flows = pair === null ? [] : recordsOf(before, pair, time, talk.connections);
          if (pair === null || flows.length === 0) continue;
          const { broken, unknown } = diffFlows({ before, after, flows, clock: time });
          if (unknown.length > 0) continue;
          certain++;
          const breaks = flows[0]?.verdict === 'allow' && recordsOf(after, pair, time, 1)[0]?.verdict === 'deny';
          assert.equal(broken.length, breaks ? 1 : 0);
        }
      }),
      { numRuns: propertyRuns(300) },
    );
    assert.ok(certain > propertyHits(500), `only ${certain} records were certain`);
  });
});

function pairOf(ends: ReturnType<typeof endsOf>, talk: { source: number; destination: number; port: number }) {
  const [source, destination] = [ends[talk.source % ends.length], ends[talk.destination % ends.length]];
  if (source === undefined || destination === undefined) return null;
  return source.party.ip.includes(':') === destination.party.ip.includes(':')
    ? { source, destination, port: talk.port }
    : null;
}

function learnedResources(learned: Learned): readonly Resource[] {
  if (learned.rules.length === 0) return [];
  const { resources, problems } = parseDocuments(renderLearned(learned));
  assert.deepEqual(problems, []);
  return resources;
}

/** The set with the learned rules in force. */
function promoted({ snapshot }: RuleSet, resources: readonly Resource[]): Snapshot {
  const enforced = resources.map((resource) =>
    resource.kind === 'SegmentationRule'
      ? { ...resource, spec: { ...resource.spec, mode: 'enforce' as const } }
      : resource,
  );
  const compiled = compileSnapshot(enforced, { revision: 2, createdAt: '', createdBy: '', trustDomain });
  assert.ok('snapshot' in compiled, JSON.stringify(compiled));
  const order = ['platform', 'team', 'baseline'];
  const rules = [...snapshot.rules, ...compiled.snapshot.rules].sort(
    (a, b) => order.indexOf(a.tier) - order.indexOf(b.tier) || a.priority - b.priority,
  );
  return { ...snapshot, rules };
}

describe('learned rules', () => {
  it('break nothing of what they were learned from once they are enforced', () => {
    let rules = 0;
    let denials = 0;
    fc.assert(
      fc.property(snapshots, registries, talks, clocks, (snapshot, registered, who, time) => {
        const before = { snapshot: { ...snapshot, externals: [] }, entries: registered };
        const ends = endsOf(before);
        const flows = who.flatMap((talk) => {
          const pair = pairOf(ends, talk);
          return pair === null ? [] : recordsOf(before, pair, time, talk.connections);
        });
        const learned = learnRules({ flows, entries: registered, trustDomain, externals: [] });
        const after = { snapshot: promoted(before, learnedResources(learned)), entries: registered };
        const { broken } = diffFlows({ before, after, flows, clock: time });
        const excused = new Set(
          learned.notLearned.map(({ source, destination, port }) => `${source} ${destination} ${port}`),
        );
        assert.deepEqual(
          broken.filter(({ source, destination, port }) => !excused.has(`${source} ${destination} ${port}`)),
          [],
        );
        rules += learned.rules.length;
        denials += diffSets({ before, after, flows, clock: time }).pairs.changed.length;
      }),
      { numRuns: propertyRuns(150) },
    );
    assert.ok(
      rules > propertyHits(100) && denials > propertyHits(50),
      `${rules} rules denied ${denials} groups: the worlds are too thin`,
    );
  });

  it('are the same bytes in whatever order the records come', () => {
    fc.assert(
      fc.property(snapshots, registries, talks, fc.infiniteStream(fc.nat()), (snapshot, registered, who, dice) => {
        const set = { snapshot, entries: registered };
        const ends = endsOf(set);
        const flows = who.flatMap((talk) => {
          const pair = pairOf(ends, talk);
          return pair === null ? [] : recordsOf(set, pair, clock, talk.connections);
        });
        const shuffled = flows.map((record) => ({ record, die: dice.next().value })).sort((a, b) => a.die - b.die);
        const first = renderLearned(learnRules({ flows, entries: registered, trustDomain, externals: [] }));
        const again = renderLearned(
          learnRules({
            flows: shuffled.map(({ record }) => record),
            entries: [...registered].reverse(),
            externals: [],
            trustDomain,
          }),
        );
        assert.equal(first, again);
      }),
      { numRuns: propertyRuns(100) },
    );
  });

  it('name accounts, ports and how often they were seen', () => {
    const day = 86_400_000;
    const flows = [
      flow({ source: api, destination: db, connections: 40, lastSeenMs: 3 * day, daysSeen: 4 }),
      flow({ source: web, destination: db, connections: 2 }),
      flow({ source: api, destination: db, port: 5433, lastSeenMs: day }),
      flow({ source: web, destination: db, port: 22, reason: 'CONNECT_REFUSED' }),
      flow({ source: web, destination: outside('203.0.113.0/24'), port: 443 }),
    ];
    const learned = learnRules({ flows, entries, trustDomain, externals: [] });
    const text = learned.rules.map(({ metadata, spec }) => [
      metadata.name,
      spec.action,
      spec.from,
      spec.to,
      spec.ports,
    ]);
    const to = [{ serviceAccount: 'billing/db' }];
    assert.deepEqual(text, [
      ['learned-203-0-113-0-24-443', 'allow', [{ serviceAccount: 'shop/web' }], [{ cidr: '203.0.113.0/24' }], [443]],
      ['learned-billing-db-5432', 'allow', [{ serviceAccount: 'shop/web' }], to, [5432]],
      ['learned-billing-db-5432-5433', 'allow', [{ serviceAccount: 'billing/api' }], to, ['5432-5433']],
      ['learned-billing-db-others', 'deny', undefined, to, undefined],
    ]);
    const note = '203.0.113.0/24: flow records keep networks, not addresses';
    assert.equal(learned.rules[0]?.spec.reason.includes(`(${note})`), true);
    assert.ok(renderLearned(learned).includes(`# Wider than what was seen:\n#   ${note}`));
    assert.equal(learned.rules[2]?.spec.reason, 'learned: 41 connections on 4 days until 1970-01-04, from billing/api');
    assert.deepEqual(
      learned.notLearned.map(({ port, why }) => [port, why]),
      [[22, 'it never reached an application']],
    );
    assert.deepEqual(learned.notSeen, {
      destinations: ['billing/api', 'legacy/box', 'shop/web'],
      sources: ['billing/db', 'legacy/box'],
      servicePorts: ['billing/database:5001'],
    });
    const busy = learnRules({ flows, entries, trustDomain, externals: [], minConnections: 3, namespace: 'billing' });
    assert.deepEqual(
      busy.rules.map(({ metadata }) => metadata.name),
      ['learned-billing-db-5432', 'learned-billing-db-others'],
    );
  });

  it('tell the applications of a shared account apart by their label', () => {
    const shared = ['one', 'two'].map((name, index) =>
      entryAt(`x/${name}`, [`198.18.3.${index + 1}`], { serviceAccount: 'default' }),
    );
    const identity = shared[0]?.identity ?? null;
    const flows = [
      flow({
        source: { workload: workloadNamed('x/two'), identity, cidr: null },
        destination: { workload: workloadNamed('x/one'), identity, cidr: null },
      }),
    ];
    const { rules } = learnRules({ flows, entries: shared, trustDomain, externals: [] });
    assert.deepEqual(rules[0]?.spec.to, [{ serviceAccount: 'x/default', labels: { app: 'one' } }]);
    assert.deepEqual(rules[0].spec.from, [{ serviceAccount: 'x/default', labels: { app: 'two' } }]);
    assert.equal(rules[0].metadata.name, 'learned-x-default-one-5432');
  });
});

describe('the audit report and the check before a promotion', () => {
  const audited = ['SegmentationRule/no-web'];
  const rule = { name: 'no-web', action: 'deny', mode: 'audit', from: [{ serviceAccounts: ['shop/web'] }] } as const;
  const snapshot = snapshotOf({ rules: [rule], mesh: { defaultAction: 'allow' } });
  const old = flow({ source: web, destination: db, audited, connections: 5, lastSeenMs: 100 });
  const flows = [
    old,
    { ...old, direction: 'inbound' as const },
    flow({ source: web, destination: api, audited: [...audited, 'Mesh/default'], lastSeenMs: 300 }),
    flow({ source: api, destination: db, audited: ['SegmentationRule/other'], lastSeenMs: 200 }),
  ];

  it('groups what would be denied by rule, the newest first', () => {
    assert.deepEqual(
      auditReport({ flows }).map(({ rule, connections, lastSeenMs, pairs }) => [
        rule,
        connections,
        lastSeenMs,
        pairs.map((p) => p.destination),
      ]),
      [
        ['Mesh/default', 1, 300, ['billing/api']],
        ['SegmentationRule/no-web', 6, 300, ['billing/api', 'billing/db']],
        ['SegmentationRule/other', 1, 200, ['billing/db']],
      ],
    );
  });

  const check = (records: readonly FlowRecord[], sinceMs = 0, name = 'no-web', set = snapshot) =>
    promoteCheck({ snapshot: set, entries, rules: [name], flows: records, sinceMs, clock });

  it('refuses a promotion that would break what was seen working in the window', () => {
    const all = check(flows);
    assert.ok(all.kind === 'checked' && !all.isSafe);
    assert.deepEqual(
      all.broken.map(({ destination, worked }) => [destination, worked]),
      [
        ['billing/db', 5],
        ['billing/api', 1],
      ],
    );
    const recent = check(flows, 301);
    assert.ok(recent.kind === 'checked' && recent.isSafe);
    assert.equal(recent.records, 0);
    const harmless = check(flows.slice(3));
    assert.ok(harmless.kind === 'checked' && harmless.isSafe && harmless.records === 1);
  });

  it('refuses it when a record of the rule cannot be judged any more', () => {
    const gone = check([
      flow({ source: web, destination: { ...db, workload: workloadNamed('billing/old') }, audited }),
    ]);
    assert.ok(gone.kind === 'checked' && !gone.isSafe);
    assert.equal(gone.doubtful.length, 1);
    const other = check([flow({ source: web, destination: { ...db, workload: workloadNamed('billing/old') } })]);
    assert.ok(other.kind === 'checked' && other.isSafe && other.unknown.length === 1);
  });

  it('names the audited rules that must be enforced with it, and takes them together', () => {
    const rules = [
      {
        name: 'web-to-db',
        mode: 'audit',
        from: [{ serviceAccounts: ['shop/web'] }],
        to: [{ workloads: ['billing/db'] }],
      },
      rule,
    ] as const;
    const both = snapshotOf({ rules, mesh: { defaultAction: 'allow' } });
    const worked = [flow({ source: web, destination: db })];
    const alone = check(worked, 0, 'no-web', both);
    assert.ok(alone.kind === 'checked' && !alone.isSafe);
    assert.deepEqual(alone.together, ['web-to-db']);
    const input = { snapshot: both, entries, flows: worked, sinceMs: 0, clock };
    const together = promoteCheck({ ...input, rules: ['web-to-db', 'no-web'] });
    assert.ok(together.kind === 'checked' && together.isSafe);
    assert.deepEqual(together.together, []);
    const unspared = check(flows);
    assert.ok(unspared.kind === 'checked' && !unspared.isSafe);
    assert.deepEqual(unspared.together, []);
    assert.deepEqual(promoteCheck({ ...input, rules: ['no-web', 'x'] }), { kind: 'no such rule', rule: 'x' });
  });

  it('says when there is nothing to promote', () => {
    assert.equal(check([], 0, 'nothing').kind, 'no such rule');
    const enforced = snapshotOf({ rules: [{ ...rule, mode: 'enforce' }] });
    assert.equal(check([], 0, 'no-web', enforced).kind, 'enforced');
    const half = snapshotOf({ rules: [{ ...rule, mode: 'enforce', rollout: 50 }], mesh: { defaultAction: 'allow' } });
    assert.equal(check([], 0, 'no-web', half).kind, 'checked');
  });
});
