import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { formatRuleRef } from '../../../../shared/policy/connection.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import type { CompiledAuthorizationPolicy, Snapshot } from '../../../../shared/policy/snapshot.js';
import { propertyRuns } from '../../../support/property-runs.js';
import { connection as connections, policySnapshot } from '../../../support/rules/policy-arbitraries.js';
import { api, clock, connection, snapshotOf, web } from '../../../support/rules/policy-fixture.js';

/** Policies with Istio's annotation istio.io/dry-run: they decide nothing, and what they would have denied is counted. */

type Policy = Partial<CompiledAuthorizationPolicy>;

const dry = (policy: Policy): Policy => ({ ...policy, dryRun: true });
const everything = [{ from: [], to: [] }];
const fromShop = [{ from: [{ namespaces: ['shop'] }], to: [] }];

/** The verdict and what is counted, for a source. */
function outcome(policies: readonly Policy[], source = api, rest: Parameters<typeof snapshotOf>[0] = {}): string {
  const mesh = { defaultAction: 'allow', ...rest.mesh } as const;
  const { verdict, rule, audited } = evaluate(snapshotOf({ ...rest, mesh, policies }), connection({ source }), clock);
  return [verdict, formatRuleRef(rule), ...audited.map(formatRuleRef)].join(' ');
}

describe('a policy in a dry run', () => {
  const rows: readonly (readonly [what: string, policies: readonly Policy[], from: typeof api, outcome: string])[] = [
    [
      'DENY that matches is counted',
      [dry({ action: 'DENY', rules: everything })],
      api,
      'allow Mesh/default AuthorizationPolicy/billing/p0',
    ],
    ['DENY that does not match is not', [dry({ action: 'DENY', rules: fromShop })], api, 'allow Mesh/default'],
    [
      'every DENY that matches is counted',
      [dry({ action: 'DENY', rules: fromShop }), dry({ action: 'DENY', rules: everything })],
      web,
      'allow Mesh/default AuthorizationPolicy/billing/p0 AuthorizationPolicy/billing/p1',
    ],
    ['ALLOW that matches is not counted', [dry({ rules: everything })], api, 'allow Mesh/default'],
    [
      'ALLOW that does not match would refuse the rest',
      [dry({ rules: fromShop })],
      api,
      'allow Mesh/default AuthorizationPolicy/billing/p0',
    ],
    [
      'of several ALLOW one that matches is enough',
      [dry({ rules: [] }), dry({ rules: fromShop })],
      web,
      'allow Mesh/default',
    ],
    [
      'an enforced ALLOW allows beside it',
      [{ rules: everything }, dry({ rules: [] })],
      api,
      'allow AuthorizationPolicy/billing/p0',
    ],
    [
      'ALLOW allows nothing that the enforced ones refuse',
      [{ rules: fromShop }, dry({ rules: everything })],
      api,
      'deny AuthorizationPolicy/billing/p0',
    ],
    [
      'DENY is counted where an enforced ALLOW allows',
      [{ rules: everything }, dry({ action: 'DENY', rules: everything })],
      api,
      'allow AuthorizationPolicy/billing/p0 AuthorizationPolicy/billing/p1',
    ],
    [
      'in the root namespace it is counted for every namespace',
      [dry({ namespace: 'root', action: 'DENY', rules: everything })],
      api,
      'allow Mesh/default AuthorizationPolicy/root/p0',
    ],
    [
      'of workloads that it does not select it says nothing',
      [dry({ selector: { app: 'x' }, rules: [] })],
      api,
      'allow Mesh/default',
    ],
  ];
  for (const [what, policies, from, expected] of rows) it(what, () => assert.equal(outcome(policies, from), expected));

  it('keeps later audited rules from being counted when it would have allowed', () => {
    const audit = { rules: [{ tier: 'baseline', action: 'deny', mode: 'audit' }] } as const;
    assert.equal(outcome([], api, audit), 'allow Mesh/default SegmentationRule/r0');
    assert.equal(outcome([dry({ rules: everything })], api, audit), 'allow Mesh/default');
    assert.equal(
      outcome([dry({ rules: everything })], api, { mesh: { defaultAction: 'audit' } }),
      'allow Mesh/default',
    );
  });

  it('is not counted behind an audited rule that would have allowed', () => {
    const audit = { rules: [{ action: 'allow', mode: 'audit' }] } as const;
    assert.equal(outcome([dry({ action: 'DENY', rules: everything })], api, audit), 'allow Mesh/default');
  });

  it('shows in the trace', () => {
    const policies = [dry({ action: 'DENY', rules: everything }), dry({ rules: fromShop })];
    const snapshot = snapshotOf({ policies, mesh: { defaultAction: 'allow' } });
    const { trace } = evaluate(snapshot, connection({ source: api }), clock, { trace: true });
    const steps = trace.filter(({ stage }) => stage === 'authorization');
    assert.deepEqual(
      steps.map(({ outcome: of, detail }) => `${of}: ${detail}`),
      [
        'audit: dry run only, would deny: rules[0] matches source billing/api',
        'audit: dry run only, would deny: no ALLOW policy allows this connection',
        'no match: no enforced AuthorizationPolicy selects destination billing/db',
      ],
    );
  });

  const alone = policySnapshot.filter(({ authorizationPolicies }) => authorizationPolicies.length > 0);

  it('decides as if it were not there, and is counted exactly where it would refuse', () => {
    let counted = 0;
    fc.assert(
      fc.property(alone, fc.nat(), fc.array(connections, { minLength: 1, maxLength: 8 }), (rules, pick, asked) => {
        const chosen = rules.authorizationPolicies[pick % rules.authorizationPolicies.length];
        const world = { ...rules, rules: [] };
        const others = world.authorizationPolicies.filter((policy) => policy !== chosen);
        assert.ok(chosen);
        const without = { ...world, authorizationPolicies: others };
        const tried: Snapshot = { ...world, authorizationPolicies: [...others, { ...chosen, dryRun: true }] };
        const enforced: Snapshot = { ...world, authorizationPolicies: [...others, chosen] };
        for (const to of asked) {
          const [is, was, would] = [tried, without, enforced].map((set) => evaluate(set, to, clock));
          assert.ok(is && was && would);
          assert.equal(is.verdict, was.verdict);
          const isCounted = is.audited.some(({ kind }) => kind === 'AuthorizationPolicy');
          if (isCounted) assert.equal(would.verdict, 'deny');
          if (was.verdict === 'allow') assert.equal(isCounted, would.verdict === 'deny');
          if (isCounted) counted++;
        }
      }),
      { numRuns: propertyRuns(400) },
    );
    assert.ok(counted > 0);
  });
});
