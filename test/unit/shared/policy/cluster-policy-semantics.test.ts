import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import type { Connection } from '../../../../shared/policy/connection.js';
import { formatRuleRef } from '../../../../shared/policy/connection.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import type { Snapshot } from '../../../../shared/policy/snapshot.js';
import { snapshotSchema } from '../../../../shared/wire/snapshot-schema.js';
import { clusterPolicies, referenceClusterVerdict } from '../../../support/rules/cluster-reference.js';
import { connection as randomConnection, snapshot } from '../../../support/rules/policy-arbitraries.js';
import { api, clock, connection, db, external, meshed, web } from '../../../support/rules/policy-fixture.js';
import {
  compileDocuments,
  istio,
  mesh,
  namespaceOf,
  networkPolicy,
} from '../../../support/rules/policy-published-fixture.js';
import { propertyHits, propertyRuns } from '../../../support/property-runs.js';

/**
 * What the Kubernetes network policy API says about ClusterNetworkPolicy (v1alpha2), AdminNetworkPolicy and
 * BaselineAdminNetworkPolicy (v1alpha1), a row for each statement, in our words. The verdicts are those of connections to
 * billing/db, port 5432, from billing/api, from shop/web and from an address that nothing names: allowed or denied.
 */

type Rule = { readonly action: string; readonly from?: readonly object[]; readonly to?: readonly object[] };
type Part = { readonly ingress?: readonly (Rule & object)[]; readonly egress?: readonly (Rule & object)[] };

const everywhere = { namespaces: {} };
const inShop = { namespaces: { matchLabels: { 'kubernetes.io/metadata.name': 'shop' } } };
const apps = (name: string) => ({
  pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: name } } },
});

function cluster(tier: 'Admin' | 'Baseline', priority: number, part: Part, subject: object = everywhere): object {
  return {
    apiVersion: 'policy.networking.k8s.io/v1alpha2',
    kind: 'ClusterNetworkPolicy',
    metadata: { name: `${tier.toLowerCase()}-${priority}` },
    spec: { tier, priority, subject, ...part },
  };
}
const admin = (priority: number, part: Part, subject?: object) => cluster('Admin', priority, part, subject);
const baseline = (priority: number, part: Part, subject?: object) => cluster('Baseline', priority, part, subject);
const ingress = (action: string, ...from: readonly object[]): Part => ({ ingress: [{ action, from }] });
const egress = (action: string, ...to: readonly object[]): Part => ({ egress: [{ action, to }] });
const older = (kind: string, name: string, spec: object): object => ({
  apiVersion: 'policy.networking.k8s.io/v1alpha1',
  kind,
  metadata: { name },
  spec,
});
const everyone = [everywhere];
const isolate = networkPolicy('isolate', 'billing', { podSelector: {}, policyTypes: ['Ingress'] });
const open = networkPolicy('open', 'billing', { podSelector: {}, ingress: [{}] });
const denyAll = mesh({ defaultAction: 'deny' });
const rule = (tier: string, action: string) => ({
  apiVersion: 'culvert.dev/v1',
  kind: 'SegmentationRule',
  metadata: { name: `${tier}-${action}` },
  spec: { tier, action },
});

type Row = readonly [statement: string, documents: readonly object[], verdicts: string, to?: Partial<Connection>];

const rows: Readonly<Record<string, readonly Row[]>> = {
  tiers: [
    ['Deny in Admin is final', [admin(1, ingress('Deny', inShop)), open], 'ada'],
    ['Accept in Admin is final: NetworkPolicies are not asked', [admin(1, ingress('Accept', inShop)), isolate], 'dad'],
    ['Pass in Admin goes on with NetworkPolicies', [admin(1, ingress('Pass', inShop)), isolate], 'ddd'],
    [
      'Pass skips the rest of the tier',
      [admin(1, ingress('Pass', inShop)), admin(2, ingress('Deny', everywhere))],
      'daa',
    ],
    ['Baseline decides where no NetworkPolicy isolates', [baseline(1, ingress('Deny', inShop))], 'ada'],
    ['NetworkPolicies overrule Baseline', [baseline(1, ingress('Deny', everywhere)), open], 'aaa'],
    [
      'after Pass in Admin comes Baseline, where no NetworkPolicy isolates',
      [admin(1, ingress('Pass', inShop)), admin(2, ingress('Deny', everywhere)), baseline(1, ingress('Deny', inShop))],
      'dda',
    ],
    ['what no tier decides is left to the default', [admin(1, ingress('Deny', apps('absent')))], 'aaa'],
    ['what no tier decides is left to the default: of the mesh', [admin(1, ingress('Pass', inShop)), denyAll], 'ddd'],
    ['Accept in Admin stands against the default', [admin(1, ingress('Accept', inShop)), denyAll], 'dad'],
    ['Accept in Baseline stands against the default', [baseline(1, ingress('Accept', inShop)), denyAll], 'dad'],
  ],
  order: [
    [
      'a lower priority comes first',
      [admin(2, ingress('Deny', inShop)), admin(1, ingress('Accept', inShop)), denyAll],
      'dad',
    ],
    [
      'within a policy the first rule that matches decides',
      [
        admin(1, {
          ingress: [
            { action: 'Deny', from: [apps('web')] },
            { action: 'Accept', from: everyone },
          ],
        }),
        denyAll,
      ],
      'add',
    ],
    [
      'AdminNetworkPolicies and ClusterNetworkPolicies of the tier Admin are in one order',
      [
        older('AdminNetworkPolicy', 'a', { priority: 5, subject: everywhere, ...ingress('Deny', inShop) }),
        admin(4, ingress('Accept', inShop)),
        denyAll,
      ],
      'dad',
    ],
    [
      'AdminNetworkPolicies say Allow',
      [older('AdminNetworkPolicy', 'a', { priority: 5, subject: everywhere, ...ingress('Allow', inShop) }), isolate],
      'dad',
    ],
    [
      'the BaselineAdminNetworkPolicy is what a NetworkPolicy overrules',
      [older('BaselineAdminNetworkPolicy', 'default', { subject: everywhere, ...ingress('Deny', everywhere) })],
      'dda',
    ],
    [
      'the BaselineAdminNetworkPolicy is what a NetworkPolicy overrules: here it does',
      [older('BaselineAdminNetworkPolicy', 'default', { subject: everywhere, ...ingress('Deny', everywhere) }), open],
      'aaa',
    ],
  ],
  subjects: [
    ['a subject selects workloads by namespace', [admin(1, ingress('Deny', everywhere), inShop)], 'aaa'],
    ['a subject selects workloads by their labels too', [admin(1, ingress('Deny', everywhere), apps('db'))], 'dda'],
    [
      'a subject selects by labels of namespaces',
      [
        namespaceOf('billing', { team: 'pay' }),
        admin(1, ingress('Deny', everywhere), { namespaces: { matchLabels: { team: 'pay' } } }),
      ],
      'dda',
    ],
    ['a policy without rules for a direction does not affect it', [admin(1, {})], 'aaa'],
  ],
  directions: [
    ['egress is of the workload that dials', [admin(1, egress('Deny', apps('db')), apps('web'))], 'ada'],
    [
      'an accepted egress leaves the ingress of the destination in force',
      [admin(1, egress('Accept', everywhere)), isolate],
      'ddd',
    ],
    [
      'an accepted egress is not denied by the egress of NetworkPolicies',
      [
        admin(1, egress('Accept', everywhere)),
        networkPolicy('out', 'shop', { podSelector: {}, policyTypes: ['Egress'] }),
      ],
      'aaa',
    ],
    [
      'an accepted ingress leaves the egress of the source in force',
      [
        admin(1, ingress('Accept', everywhere)),
        networkPolicy('out', 'shop', { podSelector: {}, policyTypes: ['Egress'] }),
      ],
      'ada',
    ],
    [
      'an ingress that NetworkPolicies allow leaves Baseline in force for the egress',
      [open, baseline(1, egress('Deny', everywhere), inShop)],
      'ada',
    ],
    [
      'Networks select addresses, those of workloads too',
      [admin(1, egress('Deny', { networks: ['198.18.0.2/32'] }), inShop)],
      'ada',
    ],
    [
      'Networks select addresses outside',
      [admin(1, egress('Accept', { networks: ['203.0.113.0/24'] })), denyAll],
      'aad',
      { destination: external('203.0.113.80') },
    ],
  ],
  ports: [
    [
      'ports are those of the destination',
      [admin(1, { ingress: [{ action: 'Deny', from: everyone, protocols: [tcp(5432)] } as Rule] })],
      'dda',
    ],
    [
      'ports are those of the destination: another',
      [admin(1, { ingress: [{ action: 'Deny', from: everyone, protocols: [tcp(80)] } as Rule] })],
      'aaa',
    ],
    [
      'ranges include both ends',
      [
        admin(1, {
          ingress: [
            {
              action: 'Deny',
              from: everyone,
              protocols: [{ tcp: { destinationPort: { range: { start: 5000, end: 5432 } } } }],
            } as Rule,
          ],
        }),
      ],
      'dda',
    ],
    [
      'a rule for UDP is about no connection',
      [
        admin(1, {
          ingress: [
            { action: 'Deny', from: everyone, protocols: [{ udp: { destinationPort: { number: 5432 } } }] } as Rule,
          ],
        }),
      ],
      'aaa',
    ],
    [
      'a named port is that of the destination',
      [
        admin(1, {
          ingress: [{ action: 'Deny', from: everyone, protocols: [{ destinationNamedPort: 'sql' }] } as Rule],
        }),
      ],
      'dda',
      { destination: meshed('billing/db', '198.18.0.2', { ports: { sql: 5432 } }) },
    ],
  ],
  'the tiers of Culvert': [
    [
      'a SegmentationRule of the tier platform comes first',
      [rule('platform', 'allow'), admin(1, ingress('Deny', everywhere))],
      'aaa',
    ],
    [
      'a SegmentationRule that passes leaves Admin out',
      [rule('platform', 'pass'), admin(1, ingress('Deny', everywhere))],
      'aaa',
    ],
    ['Admin comes before the tier team', [rule('team', 'allow'), admin(1, ingress('Deny', inShop))], 'ada'],
    ['Baseline comes after the tier team', [rule('team', 'allow'), baseline(1, ingress('Deny', inShop))], 'aaa'],
    [
      'Admin comes before AuthorizationPolicies',
      [istio('AuthorizationPolicy', 'none', 'billing', {}), admin(1, ingress('Accept', inShop))],
      'dad',
    ],
  ],
};

function tcp(number: number): object {
  return { tcp: { destinationPort: { number } } };
}

for (const [what, statements] of Object.entries(rows)) {
  describe(`cluster policies: ${what}`, () => {
    for (const [statement, documents, verdicts, to] of statements) {
      it(statement, () => {
        const compiled = compileDocuments(...documents);
        const received = snapshotSchema.parse(JSON.parse(JSON.stringify(compiled)));
        const found = [api, web, external('203.0.113.9')].map(
          (source) => evaluate(received, connection({ source, ...to }), clock).verdict[0],
        );
        assert.equal(found.join(''), verdicts);
      });
    }
  });
}

describe('a source that proves no identity', () => {
  const unproved = { ...web, identity: null };
  const verdict = (...documents: readonly object[]) =>
    evaluate(compileDocuments(...documents), connection({ source: unproved }), clock).verdict;

  it('can be denied for what is registered at its address, and is never accepted or passed for it', () => {
    assert.equal(verdict(admin(1, ingress('Deny', inShop))), 'deny');
    assert.equal(verdict(admin(1, ingress('Accept', inShop)), isolate), 'deny');
    assert.equal(verdict(admin(1, ingress('Pass', inShop)), admin(2, ingress('Deny', everywhere))), 'deny');
  });
});

describe('the decision of a cluster policy', () => {
  it('names the policy and its tier', () => {
    const { rule: ref, reason } = evaluate(
      compileDocuments(admin(7, ingress('Deny', inShop))),
      connection({ source: web }),
      clock,
    );
    assert.deepEqual(
      [formatRuleRef(ref), ref.tier, reason],
      ['ClusterNetworkPolicy/admin-7', 'platform', 'POLICY_DENY'],
    );
  });

  it('is explained by a trace', () => {
    const { trace } = evaluate(
      compileDocuments(admin(7, ingress('Deny', inShop))),
      connection({ source: web, destination: db }),
      clock,
      { trace: true },
    );
    assert.equal(trace.at(-1)?.detail, 'an ingress rule of destination billing/db matches port 5432');
  });
});

/** Each rule many times: only the first one that matches decides, and of many, answers are remembered. */
function manifold(world: Snapshot): Snapshot {
  const many = <T>(rules: readonly T[]): T[] => rules.flatMap((rule) => Array.from({ length: 40 }, () => rule));
  const clusterPolicies = (world.clusterPolicies ?? []).map((policy) => ({
    ...policy,
    ingress: many(policy.ingress),
    egress: many(policy.egress),
  }));
  return { ...world, clusterPolicies };
}

/** No policy is about what a workload sends to itself. */
const betweenTwo = randomConnection.filter(
  ({ source: { workload: a }, destination: { workload: b } }) =>
    a === null || b === null || a.name !== b.name || a.namespace !== b.namespace,
);

describe('random cluster policies', () => {
  const worlds: fc.Arbitrary<Snapshot> = fc.tuple(snapshot, clusterPolicies).map(([rest, policies]) => ({
    ...rest,
    clusterPolicies: policies,
  }));

  it('decide as the text of the API, beside random NetworkPolicies', () => {
    const seen = { allow: 0, deny: 0, open: 0 };
    fc.assert(
      fc.property(worlds, betweenTwo, (world, to) => {
        const only = { ...world, rules: [], authorizationPolicies: [] };
        const expected = referenceClusterVerdict(only, to);
        seen[expected ?? 'open']++;
        const found = (['allow', 'deny'] as const).map((defaultAction) => {
          const settings = { ...only.mesh, defaultAction, outbound: defaultAction };
          return evaluate({ ...only, mesh: settings }, to, clock).verdict;
        });
        assert.deepEqual(found, expected === null ? ['allow', 'deny'] : [expected, expected]);
        const many = manifold(only);
        assert.equal(evaluate(many, to, clock).verdict, evaluate(only, to, clock).verdict);
        // What is remembered of a party does not depend on the first question.
        const other = { ...to, port: to.port + 1 };
        assert.equal(evaluate(many, other, clock).verdict, evaluate(only, other, clock).verdict);
      }),
      { numRuns: propertyRuns(3000) },
    );
    assert.ok(Math.min(seen.allow, seen.deny, seen.open) > propertyHits(200), JSON.stringify(seen));
  });

  it('decide the same with a trace, which ends with the decision, also beside other rules', () => {
    fc.assert(
      fc.property(worlds, betweenTwo, (world, to) => {
        const traced = evaluate(world, to, clock, { trace: true });
        assert.deepEqual({ ...traced, trace: [] }, evaluate(world, to, clock));
        assert.deepEqual(traced.trace.at(-1)?.rule, traced.rule);
      }),
      { numRuns: propertyRuns(1500) },
    );
  });
});
