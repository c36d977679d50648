import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatRuleRef, type Connection } from '../../../../shared/policy/connection.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import { nextChangeMs } from '../../../../shared/policy/next-change.js';
import { isRolledOut, rolloutBucket } from '../../../../shared/policy/rollout.js';
import type { Snapshot } from '../../../../shared/policy/snapshot.js';
import { api, connection, db, external, meshed, snapshotOf, web } from '../../../support/rules/policy-fixture.js';

function decide(snapshot: Snapshot, nowMs: number, to: Partial<Connection> = {}): string {
  const { verdict, reason, rule, audited, onChange } = evaluate(snapshot, connection(to), { nowMs: () => nowMs });
  return [verdict, reason, formatRuleRef(rule), onChange.kind, ...audited.map(formatRuleRef)].join(' ');
}

const drain = { kind: 'drain', graceMs: 30_000 } as const;
const keep = { kind: 'keep' } as const;
const byDefault = 'deny POLICY_DEFAULT_DENY Mesh/default terminate';

describe('the time in which a rule is in force', () => {
  const allow = snapshotOf({ rules: [{ validFromMs: 1000, expiresAtMs: 2000, onChange: drain }] });
  const deny = snapshotOf({
    rules: [{ action: 'deny', validFromMs: 1000, expiresAtMs: 2000, onChange: keep }],
    mesh: { defaultAction: 'allow' },
  });
  const cases: readonly (readonly [nowMs: number, allow: string, deny: string])[] = [
    [999, byDefault, 'allow OK Mesh/default terminate'],
    [1000, 'allow OK SegmentationRule/r0 drain', 'deny POLICY_DENY SegmentationRule/r0 keep'],
    [1999, 'allow OK SegmentationRule/r0 drain', 'deny POLICY_DENY SegmentationRule/r0 keep'],
    [2000, 'deny POLICY_EXPIRED SegmentationRule/r0 drain', 'allow OK Mesh/default terminate'],
  ];
  for (const [nowMs, allowed, denied] of cases) {
    it(`is looked up in the clock: ${nowMs}`, () => {
      assert.equal(decide(allow, nowMs), allowed);
      assert.equal(decide(deny, nowMs), denied);
    });
  }

  it('names the rule that expired, whatever denies in its place', () => {
    const expired = { expiresAtMs: 5 };
    const closed = { action: 'deny' } as const;
    assert.equal(
      decide(snapshotOf({ rules: [expired, closed] }), 9),
      'deny POLICY_EXPIRED SegmentationRule/r0 terminate',
    );
    assert.equal(
      decide(snapshotOf({ rules: [closed, expired] }), 9),
      'deny POLICY_DENY SegmentationRule/r0 terminate',
      'the rule after the one that denies never allowed anything',
    );
    const byPolicy = snapshotOf({ rules: [expired], policies: [{ rules: [] }] });
    assert.equal(decide(byPolicy, 9), 'deny POLICY_EXPIRED SegmentationRule/r0 terminate');
  });

  it('says nothing of an expired rule that was not enforced, or when something else allows', () => {
    assert.equal(decide(snapshotOf({ rules: [{ expiresAtMs: 5, mode: 'audit' }] }), 9), byDefault);
    assert.equal(decide(snapshotOf({ rules: [{ expiresAtMs: 5, rollout: 0 }] }), 9), byDefault);
    assert.equal(decide(snapshotOf({ rules: [{ expiresAtMs: 5 }, {}] }), 9), 'allow OK SegmentationRule/r1 terminate');
  });

  it('holds for audited rules too', () => {
    const audit = snapshotOf({ rules: [{ action: 'deny', mode: 'audit', expiresAtMs: 5 }, {}] });
    assert.equal(decide(audit, 4), 'allow OK SegmentationRule/r1 terminate SegmentationRule/r0');
    assert.equal(decide(audit, 5), 'allow OK SegmentationRule/r1 terminate');
  });

  it('shows in the trace', () => {
    const { trace } = evaluate(
      snapshotOf({ rules: [{ expiresAtMs: 0 }, { validFromMs: 2_000 }, { action: 'deny', rollout: 0 }] }),
      connection(),
      { nowMs: () => 1_000 },
      { trace: true },
    );
    const steps = trace.map(({ stage, outcome, detail }) => `${stage} ${outcome} ${detail}`).join('\n');
    assert.match(steps, /team no match expired at 1970-01-01T00:00:00\.000Z, would allow: any source/);
    assert.match(steps, /team no match in force only from 1970-01-01T00:00:02\.000Z on: any source/);
    assert.match(
      steps,
      /team audit audited only \(rollout is 0 % and leaves this source out\), would deny: any source/,
    );
    assert.match(
      steps,
      /team deny it allowed this until it expired at 1970-01-01T00:00:00\.000Z; now Mesh\/default denies$/,
    );
  });
});

describe('nextChangeMs', () => {
  it('is the next instant at which an enforced rule begins or ends', () => {
    const snapshot = snapshotOf({
      rules: [
        { validFromMs: 20, expiresAtMs: 40 },
        { expiresAtMs: 10 },
        { expiresAtMs: 30, mode: 'audit' },
        { validFromMs: 20 },
      ],
    });
    const expected = new Map([
      [0, 10],
      [9, 10],
      [10, 20],
      [20, 40],
      [39, 40],
      [40, null],
    ]);
    for (const [nowMs, next] of expected) assert.equal(nextChangeMs(snapshot, nowMs), next, `after ${nowMs}`);
    assert.equal(nextChangeMs(snapshotOf({}), 0), null);
  });
});

describe('rollout', () => {
  const sources = Array.from({ length: 2000 }, (_, index) => `spiffe://mesh.test/ns/shop/sa/web-${index}`);

  it('takes about the share of sources that it says, and a higher one keeps who was in', () => {
    for (const percentage of [0, 1, 10, 50, 90, 100]) {
      const inside = sources.filter((source) => isRolledOut(source, 'db-only', percentage));
      assert.ok(Math.abs(inside.length / 20 - percentage) < 4, `${inside.length} of 2000 at ${percentage} %`);
      assert.ok(inside.every((source) => isRolledOut(source, 'db-only', Math.min(100, percentage + 7))));
    }
  });

  it('divides sources differently for another rule', () => {
    const both = sources.filter((source) => isRolledOut(source, 'a', 50) && isRolledOut(source, 'b', 50));
    assert.ok(Math.abs(both.length - 500) < 100, `${both.length} of 2000 are in both`);
  });

  it('never changes from version to version', () => {
    assert.deepEqual(
      ['spiffe://mesh.test/ns/billing/sa/api', '198.18.0.1', ''].map((source) => rolloutBucket(source, 'db-only')),
      [89, 1, 84],
    );
  });

  it('enforces a rule for the sources that are in and audits it for the others', () => {
    const identities = sources.map((_, index) => meshed(`shop/web-${index}`, `198.19.${index >> 8}.${index & 255}`));
    const snapshot = snapshotOf({ rules: [{ action: 'deny', rollout: 50 }], mesh: { defaultAction: 'allow' } });
    for (const source of identities.slice(0, 100)) {
      const isIn = isRolledOut(source.identity ?? '', 'r0', 50);
      const expected = isIn
        ? 'deny POLICY_DENY SegmentationRule/r0 terminate'
        : 'allow OK Mesh/default terminate SegmentationRule/r0';
      assert.equal(decide(snapshot, 0, { source }), expected);
      assert.equal(decide(snapshot, 0, { source: { ...source, ip: api.ip } }), expected, 'the address does not count');
    }
  });

  it('goes by the address of a source that proves no identity', () => {
    const snapshot = snapshotOf({ rules: [{ action: 'deny', rollout: 50 }], mesh: { defaultAction: 'allow' } });
    const denied = Array.from({ length: 200 }, (_, index) => external(`203.0.113.${index}`)).filter(
      (source) => decide(snapshot, 0, { source }).startsWith('deny') === isRolledOut(source.ip, 'r0', 50),
    );
    assert.equal(denied.length, 200);
  });
});

describe('a destination that nothing names', () => {
  const outside = external('203.0.113.9');
  const named = { name: 'root/bank', hosts: ['bank.example'], cidrs: ['203.0.113.0/24'], ports: [[443, 443]] } as const;
  const to = (destination = outside, port = 443) => ({ destination, port });

  for (const [outbound, expected] of [
    ['allow', 'allow OK Mesh/default terminate'],
    ['audit', 'allow OK Mesh/default terminate Mesh/default'],
    ['deny', byDefault],
  ] as const) {
    it(`is ruled by outbound ${outbound}, whatever the default is`, () => {
      for (const defaultAction of ['allow', 'deny'] as const) {
        assert.equal(decide(snapshotOf({ mesh: { outbound, defaultAction } }), 0, to()), expected);
      }
    });
  }

  it('is not a workload, and not what a ServiceEntry names on that port', () => {
    const snapshot = snapshotOf({ mesh: { outbound: 'deny', defaultAction: 'allow' }, rest: { externals: [named] } });
    const verdicts = [to(db), to(web, 1), to(), to(outside, 80), to(external('198.51.100.1'))].map(
      (asked) => decide(snapshot, 0, asked).split(' ')[0],
    );
    assert.deepEqual(verdicts, ['allow', 'allow', 'allow', 'deny', 'deny']);
  });

  it('stays outside when a ServiceEntry of a namespace names it, whatever the mesh says of outbound', () => {
    const team = { ...named, name: 'shop/bank', cidrs: ['0.0.0.0/0'] };
    const denied = { to: [{ external: true as const }], tier: 'platform', action: 'deny' } as const;
    const byRule = snapshotOf({ rules: [denied], mesh: { defaultAction: 'allow' }, rest: { externals: [team] } });
    assert.equal(decide(byRule, 0, to()), 'deny POLICY_DENY SegmentationRule/r0 terminate');
    const byMesh = snapshotOf({ mesh: { outbound: 'deny', defaultAction: 'allow' }, rest: { externals: [team] } });
    assert.equal(decide(byMesh, 0, to()), byDefault);
    const from = snapshotOf({
      rules: [{ from: [{ external: true as const }], action: 'deny' }],
      mesh: { defaultAction: 'allow' },
      rest: { externals: [team] },
    });
    assert.equal(decide(from, 0, { source: outside }).split(' ')[0], 'deny');
  });

  it('is matched by external, alone or with a network', () => {
    const rules = [
      { to: [{ external: true as const, cidrs: ['203.0.113.0/24'] }], ports: [[80, 80] as const] },
      { action: 'deny' as const, to: [{ external: true as const }] },
    ];
    const snapshot = snapshotOf({ rules, mesh: { defaultAction: 'allow' }, rest: { externals: [named] } });
    const by = [to(outside, 80), to(outside, 81), to(), to(db)].map(
      (asked) => decide(snapshot, 0, asked).split(' ')[2],
    );
    assert.deepEqual(by, ['SegmentationRule/r0', 'SegmentationRule/r1', 'Mesh/default', 'Mesh/default']);
  });

  it('is still allowed or denied by any rule before', () => {
    const snapshot = snapshotOf({ rules: [{ tier: 'baseline' }], mesh: { outbound: 'deny' } });
    assert.equal(decide(snapshot, 0, to()), 'allow OK SegmentationRule/r0 terminate');
  });
});

describe('who proves no identity', () => {
  const rules = [{ from: [{ unauthenticated: true as const }] }];
  const cases = [
    ['an outsider', external('203.0.113.9'), 'allow'],
    ['a workload in plaintext', { ...api, identity: null }, 'allow'],
    ['a workload', api, 'deny'],
  ] as const;
  for (const [what, source, verdict] of cases) {
    it(`is asked for by unauthenticated: ${what}`, () => {
      assert.equal(decide(snapshotOf({ rules }), 0, { source }).split(' ')[0], verdict);
    });
  }
});

describe('labels of namespaces', () => {
  it('select every workload of the namespace, whose name is a label too', () => {
    const rest = { namespaces: { billing: { team: 'payments' } } };
    const allows = (namespaceLabels: Record<string, string>, source = api) =>
      decide(snapshotOf({ rules: [{ from: [{ namespaceLabels }] }], rest }), 0, { source }).startsWith('allow');
    assert.deepEqual(
      [
        allows({ team: 'payments' }),
        allows({ team: 'payments' }, web),
        allows({ 'kubernetes.io/metadata.name': 'shop' }, web),
        allows({ 'kubernetes.io/metadata.name': 'shop' }),
        allows({ team: 'payments' }, { ...api, identity: null }),
        allows({ team: 'payments' }, external('203.0.113.9')),
      ],
      [true, false, true, false, false, false],
    );
  });
});
