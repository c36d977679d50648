import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { formatSpiffeId } from '../../../../shared/identity.js';
import { formatRuleRef, type Connection, type Party } from '../../../../shared/policy/connection.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import { prepareSnapshot } from '../../../../shared/policy/prepared/prepared-snapshot.js';
import type { CompiledRule, PeerMatch, Snapshot } from '../../../../shared/policy/snapshot.js';
import {
  api,
  clock,
  connection,
  db,
  external,
  meshed,
  snapshotOf,
  web,
  workload,
} from '../../../support/rules/policy-fixture.js';

function decide(snapshot: Snapshot, to: Partial<Connection> = {}): string {
  const { verdict, reason, rule, audited } = evaluate(snapshot, connection(to), clock);
  return [verdict, reason, formatRuleRef(rule), ...audited.map((ref) => `audited ${formatRuleRef(ref)}`)].join(' ');
}

const byDefault = 'deny POLICY_DEFAULT_DENY Mesh/default';
const allowed = 'allow OK SegmentationRule/r0';

describe('the mesh default', () => {
  const cases = [
    ['allow', 'allow OK Mesh/default'],
    ['audit', 'allow OK Mesh/default audited Mesh/default'],
    ['deny', byDefault],
  ] as const;
  for (const [defaultAction, expected] of cases) {
    it(`${defaultAction} decides when no rule does`, () => {
      assert.equal(decide(snapshotOf({ mesh: { defaultAction } })), expected);
    });
  }
});

describe('the order of evaluation', () => {
  const allow = { action: 'allow' } as const;
  const deny = { action: 'deny' } as const;
  const pass = { action: 'pass' } as const;
  const denyAll = { action: 'DENY', rules: [{ from: [], to: [] }] } as const;
  const allowAll = { action: 'ALLOW', rules: [{ from: [], to: [] }] } as const;
  const allowNone = { action: 'ALLOW', rules: [] } as const;
  type Case = readonly [what: string, init: Parameters<typeof snapshotOf>[0], expected: string];
  const cases: readonly Case[] = [
    [
      'platform comes before team',
      { rules: [{ ...deny, tier: 'platform' }, allow] },
      'deny POLICY_DENY SegmentationRule/r0',
    ],
    ['team comes before baseline', { rules: [allow, { ...deny, tier: 'baseline' }] }, allowed],
    ['team comes before AuthorizationPolicies', { rules: [allow], policies: [denyAll] }, allowed],
    [
      'AuthorizationPolicies come before baseline',
      { rules: [{ ...allow, tier: 'baseline' }], policies: [denyAll] },
      'deny POLICY_DENY AuthorizationPolicy/billing/p0',
    ],
    [
      'an ALLOW policy that matches is final',
      { rules: [{ ...deny, tier: 'baseline' }], policies: [allowAll] },
      'allow OK AuthorizationPolicy/billing/p0',
    ],
    [
      'ALLOW policies without a match deny',
      { rules: [{ ...allow, tier: 'baseline' }], policies: [allowNone] },
      'deny POLICY_DEFAULT_DENY AuthorizationPolicy/billing/p0',
    ],
    ['DENY comes before ALLOW', { policies: [allowAll, denyAll] }, 'deny POLICY_DENY AuthorizationPolicy/billing/p1'],
    ['baseline comes before the default', { rules: [{ ...allow, tier: 'baseline' }] }, allowed],
    ['a lower priority comes first', { rules: [allow, deny] }, allowed],
    [
      'pass leaves the tier',
      { rules: [pass, allow, { ...deny, tier: 'baseline' }] },
      'deny POLICY_DENY SegmentationRule/r2',
    ],
    [
      'pass does not skip AuthorizationPolicies',
      { rules: [pass], policies: [denyAll] },
      'deny POLICY_DENY AuthorizationPolicy/billing/p0',
    ],
    [
      'an audited deny is counted and does not deny',
      { rules: [{ ...deny, mode: 'audit' }, allow] },
      'allow OK SegmentationRule/r1 audited SegmentationRule/r0',
    ],
    ['an audited allow does nothing', { rules: [{ ...allow, mode: 'audit' }] }, byDefault],
    ['an audited pass does nothing', { rules: [{ ...pass, mode: 'audit' }, allow] }, 'allow OK SegmentationRule/r1'],
    [
      'audited rules that deny count before an audited allow and not behind it',
      { rules: [{ ...deny, mode: 'audit' }, { ...allow, mode: 'audit' }, { ...deny, mode: 'audit' }, allow] },
      'allow OK SegmentationRule/r3 audited SegmentationRule/r0',
    ],
    [
      'an audited allow shields from the audited rules of later tiers and from the audited default',
      {
        rules: [
          { ...allow, mode: 'audit' },
          { ...deny, mode: 'audit', tier: 'baseline' },
        ],
        mesh: { defaultAction: 'audit' },
      },
      'allow OK Mesh/default',
    ],
    [
      'an audited pass shields from the audited rules of its own tier only',
      {
        rules: [
          { ...pass, mode: 'audit' },
          { ...deny, mode: 'audit' },
          { ...deny, mode: 'audit', tier: 'baseline' },
        ],
        mesh: { defaultAction: 'allow' },
      },
      'allow OK Mesh/default audited SegmentationRule/r2',
    ],
    ['an audited deny after the decision is not counted', { rules: [allow, { ...deny, mode: 'audit' }] }, allowed],
  ];
  for (const [what, init, expected] of cases) it(what, () => assert.equal(decide(snapshotOf(init)), expected));
});

describe('a peer', () => {
  const own = api;
  const cases: readonly (readonly [match: PeerMatch, party: Party, matches: boolean])[] = [
    [{}, external('203.0.113.1'), true],
    [{ namespaces: ['shop', 'billing'] }, own, true],
    [{ namespaces: ['shop'] }, own, false],
    [{ serviceAccounts: ['billing/api'] }, own, true],
    [{ serviceAccounts: ['shop/api'] }, own, false],
    [{ workloads: ['billing/api'] }, own, true],
    [{ workloads: ['billing/db'] }, own, false],
    [{ nodes: ['host-a'] }, own, true],
    [{ nodes: ['host-b'] }, own, false],
    [{ nodes: ['host-a'] }, meshed('billing/api', '198.18.0.1', { node: null }), false],
    [{ labels: { app: 'api' } }, own, true],
    [{ labels: { app: 'api', tier: 'x' } }, own, false],
    [{ labels: { constructor: 'x' } }, own, false],
    [{ labels: { app: 'web' } }, own, false],
    [{ cidrs: ['198.18.0.0/24', '10.0.0.0/8'] }, own, true],
    [{ cidrs: ['198.18.1.0/24'] }, own, false],
    [{ cidrs: ['198.18.0.1'] }, own, true],
    [{ cidrs: ['::/0'] }, own, false],
    [{ cidrs: ['fd00::/8'] }, external('fd00::1'), true],
    [{ cidrs: ['198.18.0.0/16'], exceptCidrs: ['198.18.0.0/24'] }, own, false],
    [{ cidrs: ['198.18.0.0/16'], exceptCidrs: ['198.18.1.0/24'] }, own, true],
    [{ namespaces: ['billing'], labels: { app: 'api' }, nodes: ['host-a'] }, own, true],
    [{ namespaces: ['billing'], labels: { app: 'api' }, nodes: ['host-b'] }, own, false],
    [{ namespaces: ['billing'] }, external('198.18.0.1'), false],
    [{ labels: { app: 'api' } }, external('198.18.0.1'), false],
  ];
  for (const [match, party, matches] of cases) {
    const title = `${JSON.stringify(match)} ${matches ? 'matches' : 'does not match'} ${party.ip} (${party.workload?.name ?? 'external'})`;
    it(`${title} as source`, () => {
      assert.equal(
        decide(snapshotOf({ rules: [{ from: [match] }] }), { source: party }),
        matches ? allowed : byDefault,
      );
    });
    it(`${title} as destination`, () => {
      const snapshot = snapshotOf({ rules: [{ to: [match] }] });
      assert.equal(decide(snapshot, { destination: party }), matches ? allowed : byDefault);
    });
  }

  it('matches when any entry of the list does', () => {
    const from = [{ namespaces: ['shop'] }, { namespaces: ['billing'] }];
    assert.equal(decide(snapshotOf({ rules: [{ from }] })), allowed);
  });
});

describe('ports', () => {
  const cases: readonly (readonly [CompiledRule['ports'], number, boolean])[] = [
    [[], 1, true],
    [[[5432, 5432]], 5432, true],
    [[[5432, 5432]], 5433, false],
    [
      [
        [80, 80],
        [8000, 8100],
      ],
      8000,
      true,
    ],
    [
      [
        [80, 80],
        [8000, 8100],
      ],
      8100,
      true,
    ],
    [
      [
        [80, 80],
        [8000, 8100],
      ],
      8101,
      false,
    ],
  ];
  for (const [ports, port, matches] of cases) {
    it(`${JSON.stringify(ports)} ${matches ? 'has' : 'does not have'} ${port}`, () => {
      assert.equal(decide(snapshotOf({ rules: [{ ports }] }), { port }), matches ? allowed : byDefault);
    });
  }
});

describe('a source whose address is registered but which proves another identity or none', () => {
  const unproved: Party = { ...api, identity: null };
  const foreign: Party = {
    ...api,
    identity: formatSpiffeId({ trustDomain: 'other.test', namespace: 'billing', serviceAccount: 'api' }),
  };
  const impostor: Party = { ...web, workload: workload('billing/api') };
  const matches: readonly PeerMatch[] = [
    { namespaces: ['billing'] },
    { serviceAccounts: ['billing/api'] },
    { workloads: ['billing/api'] },
    { labels: { app: 'api' } },
    { nodes: ['host-a'] },
  ];
  for (const [what, source] of Object.entries({ unproved, foreign, impostor })) {
    for (const match of matches) {
      it(`is not allowed by ${JSON.stringify(match)} (${what})`, () => {
        assert.equal(decide(snapshotOf({ rules: [{ from: [match] }] }), { source }), byDefault);
        assert.equal(
          decide(snapshotOf({ rules: [{ from: [match], action: 'pass' }, { action: 'deny' }] }), { source }),
          'deny POLICY_DENY SegmentationRule/r1',
        );
      });
      it(`is denied by ${JSON.stringify(match)} (${what})`, () => {
        const snapshot = snapshotOf({ rules: [{ from: [match], action: 'deny' }], mesh: { defaultAction: 'allow' } });
        assert.equal(decide(snapshot, { source }), 'deny POLICY_DENY SegmentationRule/r0');
      });
    }
  }

  it('is denied by what it proves as well', () => {
    const snapshot = snapshotOf({
      rules: [{ from: [{ serviceAccounts: ['shop/web'] }], action: 'deny' }],
      mesh: { defaultAction: 'allow' },
    });
    assert.equal(decide(snapshot, { source: impostor }), 'deny POLICY_DENY SegmentationRule/r0');
  });

  it('is allowed by its address', () => {
    const snapshot = snapshotOf({ rules: [{ from: [{ cidrs: ['198.18.0.0/16'] }] }] });
    assert.equal(decide(snapshot, { source: unproved }), allowed);
  });

  it('is known by its certificate when its address is not registered', () => {
    const source: Party = { ...api, workload: null };
    assert.equal(
      decide(snapshotOf({ rules: [{ from: [{ serviceAccounts: ['billing/api'] }] }] }), { source }),
      allowed,
    );
    assert.equal(decide(snapshotOf({ rules: [{ from: [{ workloads: ['billing/api'] }] }] }), { source }), byDefault);
  });
});

describe('a snapshot that cannot be read', () => {
  it('is refused when it is prepared, never taken as empty', () => {
    const snapshot = snapshotOf({ rules: [{ from: [{ cidrs: ['10.0.0.0/99'] }] }], mesh: { defaultAction: 'allow' } });
    assert.throws(() => prepareSnapshot(snapshot), { code: 'SNAPSHOT_INVALID' });
    assert.throws(() => evaluate(snapshot, connection(), clock), { code: 'SNAPSHOT_INVALID' });
  });

  it('is prepared once for each object', () => {
    const snapshot = snapshotOf({});
    assert.equal(prepareSnapshot(snapshot), prepareSnapshot(snapshot));
  });
});

describe('the destination of a rule', () => {
  it('is found in whatever namespace, and when it is outside the mesh', () => {
    const snapshot = snapshotOf({
      rules: [
        { to: [{ namespaces: ['shop'] }], ports: [[1, 1]] },
        { to: [{ serviceAccounts: ['billing/db'] }, { workloads: ['shop/web'] }], ports: [[2, 2]] },
        { to: [{ cidrs: ['203.0.113.0/24'] }], ports: [[3, 3]] },
        { ports: [[4, 4]] },
      ],
    });
    const outcome = (destination: Party) =>
      [1, 2, 3, 4].map((port) => decide(snapshot, { destination, port }).split('/')[1]).join(' ');
    assert.equal(outcome(web), 'r0 r1 default r3');
    assert.equal(outcome(db), 'default r1 default r3');
    assert.equal(outcome(external('203.0.113.9')), 'default default r2 r3');
  });
});
