import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { lintSet } from '../../../../controller/analysis/lint/lint-set.js';
import { nearMisses } from '../../../../controller/analysis/why/near-misses.js';
import { connectionOf } from '../../../../controller/analysis/pairs/predict.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import type { Connection } from '../../../../shared/policy/connection.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import type { CompiledRule, Snapshot } from '../../../../shared/policy/snapshot.js';
import type { FlowRecord } from '../../../../shared/wire/flows.js';
import { workloadEntry } from '../../../support/rules/analysis-fixture.js';
import { flow } from '../../../support/rules/analysis-flow-world.js';
import { clocks, endsOf, registries, snapshots } from '../../../support/rules/analysis-world.js';
import { clock, connection, external, meshed, snapshotOf, web } from '../../../support/rules/policy-fixture.js';
import { workloadNamed } from '../../../support/routing/names.js';
import { propertyHits, propertyRuns } from '../../../support/property-runs.js';

const entries = ['api', 'db', 'batch'].map((name, index) =>
  workloadEntry(`billing/${name}`, [`198.18.0.${index + 1}`]),
);

function lint(rules: readonly Partial<CompiledRule>[], more: { flows?: readonly FlowRecord[]; nowMs?: number } = {}) {
  const time = { nowMs: () => more.nowMs ?? 0 };
  const findings = lintSet({ snapshot: snapshotOf({ rules }), entries, clock: time, flows: more.flows ?? null });
  return findings.map(({ kind, resource, other }) => [kind, resource.split('/')[1], other?.split('/')[1] ?? null]);
}

const db = [{ serviceAccounts: ['billing/db'] }];
const api = [{ serviceAccounts: ['billing/api'] }];
const anyBilling = [{ namespaces: ['billing'] }];

describe('lint', () => {
  const shadowing: [string, Partial<CompiledRule>[], unknown][] = [
    ['an account in a namespace', [{ to: anyBilling }, { to: db, action: 'deny' }], [['shadowed', 'r1', 'r0']]],
    [
      'a port in a range',
      [
        { to: db, ports: [[1, 99]] },
        { to: db, ports: [[5, 9]] },
      ],
      [['shadowed', 'r1', 'r0']],
    ],
    [
      'a lower tier',
      [
        { tier: 'platform', to: db, action: 'deny' },
        { tier: 'baseline', to: db },
      ],
      [['shadowed', 'r1', 'r0']],
    ],
    [
      'labels',
      [{ to: [{ labels: { app: 'db' } }] }, { to: [{ labels: { app: 'db', tier: '1' }, namespaces: ['billing'] }] }],
      [
        ['shadowed', 'r1', 'r0'],
        ['matches nothing', 'r1', null],
      ],
    ],
    [
      'a network',
      [{ to: [{ cidrs: ['10.0.0.0/8'] }] }, { to: [{ cidrs: ['10.1.0.0/16'] }] }],
      [['shadowed', 'r1', 'r0']],
    ],
    [
      'but not one with a hole',
      [{ to: [{ cidrs: ['10.0.0.0/8'], exceptCidrs: ['10.1.2.0/24'] }] }, { to: [{ cidrs: ['10.1.0.0/16'] }] }],
      [],
    ],
    [
      'a network beside the hole',
      [{ to: [{ cidrs: ['10.0.0.0/8'], exceptCidrs: ['10.9.0.0/16'] }] }, { to: [{ cidrs: ['10.1.0.0/16'] }] }],
      [['shadowed', 'r1', 'r0']],
    ],
    [
      'but not a lower tier by a pass',
      [
        { tier: 'platform', to: db, action: 'pass' },
        { tier: 'team', to: db },
      ],
      [],
    ],
    ['but not by an audited rule', [{ to: anyBilling, mode: 'audit' }, { to: db }], []],
    ['but not by a rule for half of the sources', [{ to: anyBilling, rollout: 50 }, { to: db }], []],
    ['but not by a rule that ends', [{ to: anyBilling, expiresAtMs: 9e12 }, { to: db }], []],
    [
      'but not a denial by an allowance of proved identities',
      [
        { from: anyBilling, to: db },
        { from: api, to: db, action: 'deny' },
      ],
      [],
    ],
  ];
  for (const [name, rules, findings] of shadowing) {
    it(`finds shadowed rules: ${name}`, () => assert.deepEqual(lint(rules), findings));
  }

  it('finds no shadowed rule whose removal would change a verdict', () => {
    let shadowed = 0;
    fc.assert(
      fc.property(snapshots, registries, clocks, (snapshot, registered, time) => {
        const doubled: Snapshot = {
          ...snapshot,
          rules: snapshot.rules.flatMap((rule, index) => [
            rule,
            ...(index % 2 === 0 ? [{ ...rule, name: `${rule.name}-again` }] : []),
          ]),
        };
        const findings = lintSet({ snapshot: doubled, entries: registered, clock: time }).filter(
          ({ kind }) => kind === 'shadowed',
        );
        const ends = endsOf({ snapshot: doubled, entries: registered });
        for (const { resource } of findings) {
          shadowed++;
          const without = {
            ...doubled,
            rules: doubled.rules.filter(({ name }) => `SegmentationRule/${name}` !== resource),
          };
          for (const source of ends) {
            for (const destination of ends.slice(0, 6)) {
              for (const port of [1, 3, 5, 8]) {
                for (const isMeshed of [true, false]) {
                  const facts = connectionOf({ source: { ...source, isMeshed }, destination, port });
                  const [was, will] = [evaluate(doubled, facts, time), evaluate(without, facts, time)];
                  assert.equal(was.verdict, will.verdict);
                }
              }
            }
          }
        }
      }),
      { numRuns: propertyRuns(150) },
    );
    assert.ok(shadowed > propertyHits(50), `only ${shadowed} rules were shadowed`);
  });

  it('finds rules that touch each other, but no exception before its rule', () => {
    const touching = [
      { from: api, to: anyBilling },
      { to: db, action: 'deny' },
    ] as const;
    assert.deepEqual(lint(touching), [['overlap', 'r0', 'r1']]);
    assert.deepEqual(
      lint([
        { from: api, to: db },
        { to: db, action: 'deny' },
      ]),
      [],
    );
  });

  it('finds rules that end', () => {
    const day = 86_400_000;
    const rules = [
      { expiresAtMs: 10 * day, to: db },
      { expiresAtMs: 20 * day, to: api },
      { expiresAtMs: 3 * day, to: [{ nodes: ['host-a'] }] },
    ];
    assert.deepEqual(lint(rules, { nowMs: 4 * day }), [
      ['expired', 'r2', null],
      ['expires soon', 'r0', null],
    ]);
  });

  it('finds peers and segments without members, and segments that nothing uses', () => {
    const snapshot = snapshotOf({
      rules: [
        { name: 'typo', to: [{ serviceAccounts: ['billing/bd'] }] },
        { name: 'lan', from: [{ cidrs: ['10.0.0.0/8'] }], to: [{ serviceAccounts: ['x/y'], segment: 'lost' }] },
      ],
    });
    const { resources } = parseDocuments(
      '{ apiVersion: culvert.dev/v1, kind: Segment, metadata: { name: idle }, spec: { members: [{ namespace: a }] } }',
    );
    const findings = lintSet({ snapshot, entries, clock, resources });
    assert.deepEqual(
      findings.map(({ kind, resource }) => [kind, resource]),
      [
        ['matches nothing', 'SegmentationRule/typo'],
        ['matches nothing', 'SegmentationRule/lan'],
        ['empty segment', 'Segment/lost'],
        ['unused segment', 'Segment/idle'],
      ],
    );
  });

  it('finds rules that never matched, and rules that allow much more than was seen', () => {
    const end = { workload: workloadNamed('billing/api'), identity: null, cidr: null };
    const flows = [
      flow({
        source: end,
        destination: { ...end, workload: workloadNamed('billing/db') },
        rule: 'SegmentationRule/r0',
        audited: ['SegmentationRule/r2'],
      }),
    ];
    const rules: Partial<CompiledRule>[] = [
      { to: db },
      { to: api, from: db, ports: [[80, 80]] },
      { to: [{ nodes: ['host-a'] }], from: db, mode: 'audit', action: 'deny' },
      { to: [{ workloads: ['billing/batch'] }], from: db, mode: 'audit' },
    ];
    const found = lint(rules, { flows }).filter(([kind]) => kind !== 'overlap');
    assert.deepEqual(found, [
      ['never matched', 'r1', null],
      ['broad', 'r0', null],
    ]);
  });
});

describe('near misses', () => {
  const texts = (snapshot: Snapshot, facts: Connection, nowMs = 0) =>
    nearMisses(snapshot, facts, { nowMs: () => nowMs }).map(({ text }) => text);
  const dbRule = { name: 'db', from: api, to: db, ports: [[5432, 5432]] } as const;

  it('name the service account that would be allowed', () => {
    const facts = connection({ source: meshed('billing/batch', '198.18.0.3') });
    assert.deepEqual(texts(snapshotOf({ rules: [dbRule] }), facts), [
      "billing/db would allow it if the source's service account were billing/api (SegmentationRule/db)",
    ]);
  });

  const cases: [string, Partial<Parameters<typeof snapshotOf>[0]>, Partial<Connection>, string][] = [
    [
      'the port',
      { rules: [dbRule] },
      { port: 5433 },
      'billing/db would allow it if the port were 5432 (SegmentationRule/db)',
    ],
    [
      'a label',
      { rules: [{ name: 'l', from: [{ labels: { role: 'batch' } }] }] },
      {},
      "billing/db would allow it if the source's label role were batch (SegmentationRule/l)",
    ],
    [
      'the namespace',
      { rules: [{ name: 'n', from: [{ namespaces: ['billing'] }] }] },
      { source: web },
      "billing/db would allow it if the source's namespace were billing (SegmentationRule/n)",
    ],
    [
      'an address',
      { rules: [{ name: 'a', from: [{ cidrs: ['10.0.0.0/8'] }] }] },
      { source: external('192.0.2.1') },
      "billing/db would allow it if the source's address were 10.0.0.0 (SegmentationRule/a)",
    ],
    [
      'a proof of identity',
      { rules: [dbRule] },
      { source: { ...meshed('billing/api', '198.18.0.1'), identity: null } },
      "billing/db would allow it if the source's proved identity were spiffe://mesh.test/ns/billing/sa/api (SegmentationRule/db)",
    ],
    [
      'the time',
      { rules: [{ ...dbRule, validFromMs: 1000 }] },
      {},
      'billing/db would allow it at 1970-01-01T00:00:01.000Z (SegmentationRule/db)',
    ],
    [
      'a principal of a policy',
      { policies: [{ name: 'p', rules: [{ from: [{ principals: ['mesh.test/ns/shop/sa/web'] }], to: [] }] }] },
      {},
      "billing/db would allow it if the source's service account were shop/web (AuthorizationPolicy/billing/p)",
    ],
    [
      'what would be denied',
      { rules: [{ name: 'no', action: 'deny', from: [{ labels: { role: 'x' } }] }], mesh: { defaultAction: 'allow' } },
      {},
      "billing/db would deny it if the source's label role were x (SegmentationRule/no)",
    ],
  ];
  for (const [name, set, facts, text] of cases) {
    it(`name ${name}`, () =>
      assert.ok(
        texts(snapshotOf(set), connection(facts)).includes(text),
        texts(snapshotOf(set), connection(facts)).join('\n'),
      ));
  }

  it('name nothing when two facts would have to change', () => {
    assert.deepEqual(texts(snapshotOf({ rules: [dbRule] }), connection({ source: web, port: 1 })), []);
  });

  it('are at most five, and each turns the decision round', () => {
    let found = 0;
    fc.assert(
      fc.property(
        snapshots,
        registries,
        clocks,
        fc.nat(),
        fc.nat(),
        fc.integer({ min: 1, max: 9 }),
        (snapshot, registered, time, a, b, port) => {
          const ends = endsOf({ snapshot, entries: registered });
          const [source, destination] = [ends[a % ends.length], ends[b % ends.length]];
          assert.ok(source && destination);
          const facts = connectionOf({ source, destination, port });
          const misses = nearMisses(snapshot, facts, time);
          const { verdict } = evaluate(snapshot, facts, time);
          found += misses.length;
          assert.ok(misses.length <= 5);
          for (const miss of misses) assert.notEqual(miss.verdict, verdict);
          assert.equal(new Set(misses.map(({ text }) => text)).size, misses.length);
        },
      ),
      { numRuns: 500 },
    );
    assert.ok(found > 50, `only ${found} near misses`);
  });
});
