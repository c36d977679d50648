import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { runAssertions } from '../../../../controller/analysis/tests/assertions.js';
import { parsePolicyTests, withoutPolicyTests } from '../../../../controller/analysis/tests/policy-test.js';
import type { RuleTest } from '../../../../controller/resources/kinds/rule-test.js';
import { runRuleTests } from '../../../../controller/analysis/tests/rule-tests.js';
import { compileSnapshot } from '../../../../controller/compile/compile-snapshot.js';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import type { RuleSet } from '../../../../controller/analysis/pairs/rule-set.js';
import { clock, snapshotOf } from '../../../support/rules/policy-fixture.js';
import { registryService, workloadEntry } from '../../../support/rules/analysis-fixture.js';

const set: RuleSet = {
  snapshot: snapshotOf({
    rules: [
      { name: 'no-batch', tier: 'platform', action: 'deny', from: [{ labels: { app: 'batch' } }] },
      {
        name: 'db-from-api',
        from: [{ serviceAccounts: ['billing/api'] }],
        to: [{ workloads: ['billing/db'] }],
        ports: [[5432, 5432]],
      },
      { name: 'lan', from: [{ cidrs: ['10.0.0.0/8'] }], to: [{ namespaces: ['shop'] }] },
    ],
    policies: [{ namespace: 'shop', name: 'web', rules: [] }],
    mesh: { mtls: 'STRICT' },
  }),
  entries: [
    workloadEntry('billing/api', ['198.18.0.1', 'fd00::1']),
    workloadEntry('billing/db', ['198.18.0.2']),
    workloadEntry('billing/batch', ['198.18.0.3']),
    workloadEntry('shop/web-1', ['198.18.1.1'], { serviceAccount: 'web', labels: { app: 'web' } }),
    workloadEntry('shop/web-2', ['198.18.1.2'], { serviceAccount: 'web', labels: { app: 'batch' } }),
    workloadEntry('legacy/box', ['198.18.2.1'], { node: null }),
    registryService('billing/database', {
      ports: [{ port: 5000, targetPort: 5432 }],
      selector: { app: 'db' },
      vips: ['198.18.9.1'],
    }),
  ],
};

function run(assertion: RuleTest) {
  const [result] = runAssertions({ ...set, assertions: [assertion], clock });
  assert.ok(result);
  return result;
}

describe('an assertion about a workload and itself', () => {
  const verdict = (assertion: RuleTest) => {
    const { isPassed, failure } = run(assertion);
    return isPassed ? 'passed' : failure;
  };

  it('finds it allowed, directly and through a service, with an agent and without', () => {
    for (const to of ['billing/db:1', '198.18.0.2:1', 'service:billing/database']) {
      assert.equal(verdict({ from: 'billing/db', to, expect: 'allow' }), 'passed');
    }
    assert.equal(verdict({ from: 'legacy/box', to: 'legacy/box:1', expect: 'allow' }), 'passed');
    assert.match(verdict({ from: 'billing/db', to: 'billing/db:1', expect: 'deny' }) ?? '', /Mesh\/default allows it/);
  });

  it('means different ones where a name has several, or none yet', () => {
    assert.equal(verdict({ from: 'sa:shop/web', to: 'sa:shop/web:80', expect: 'deny' }), 'passed');
    assert.equal(verdict({ from: 'new/one', to: 'new/one:80', expect: 'deny' }), 'passed');
  });
});

describe('an assertion', () => {
  const passing: [string, RuleTest][] = [
    ['holds for a service account', { from: 'billing/api', to: 'billing/db:5432', expect: 'allow', by: 'db-from-api' }],
    ['holds for the port of a service', { from: 'billing/api', to: 'billing/database:5000', expect: 'allow' }],
    ['finds a service by its only port', { from: 'billing/api', to: 'service:billing/database', expect: 'allow' }],
    ['holds for addresses', { from: '198.18.0.1', to: '198.18.0.2:5432', expect: 'allow', tier: 'team' }],
    [
      'names the default',
      { from: 'billing/api', to: 'billing/db:1', expect: 'deny', by: 'Mesh/default', tier: 'default' },
    ],
    [
      'names a policy',
      { from: 'billing/api', to: 'shop/web-1:80', expect: 'deny', by: 'AuthorizationPolicy/shop/web' },
    ],
    ['knows that STRICT refuses who proves nothing', { from: '10.0.0.1', to: 'shop/web-1:80', expect: 'deny' }],
    [
      'knows that a workload without an agent proves nothing',
      { from: 'legacy/box', to: 'billing/db:5432', expect: 'deny' },
    ],
  ];
  for (const [name, assertion] of passing) {
    it(name, () => {
      const result = run(assertion);
      assert.equal(result.failure, null);
      assert.equal(result.isPassed, true);
      assert.equal(result.found?.verdict, assertion.expect);
    });
  }

  const failing: [string, RuleTest, RegExp][] = [
    [
      'another verdict',
      { from: 'billing/api', to: 'billing/db:5432', expect: 'deny' },
      /should be denied, but SegmentationRule\/db-from-api allows it/,
    ],
    [
      'another rule',
      { from: 'billing/batch', to: 'billing/db:5432', expect: 'deny', by: 'Mesh/default' },
      /denied, but by SegmentationRule\/no-batch and not by Mesh\/default/,
    ],
    [
      'another tier',
      { from: 'billing/batch', to: 'billing/db:5432', expect: 'deny', tier: 'default' },
      /in the step platform and not in default/,
    ],
    [
      'one of several replicas',
      { from: 'sa:shop/web', to: 'billing/db:5432', expect: 'deny', by: 'no-batch' },
      /shop\/web-1 to billing\/db:5432 is denied, but by Mesh\/default/,
    ],
    ['no port', { from: 'billing/api', to: 'billing/db', expect: 'allow' }, /has no port/],
    [
      'an unknown port of a service',
      { from: 'billing/api', to: 'billing/database:1', expect: 'allow' },
      /no port 1 \(name one of 5000\)/,
    ],
    [
      'an unknown workload',
      { from: 'workload:billing/apo', to: 'billing/db:1', expect: 'deny' },
      /no workload billing\/apo \(did you mean billing\/api\?\)/,
    ],
    ['nonsense', { from: 'api', to: 'billing/db:1', expect: 'deny' }, /neither an address nor NAMESPACE\/NAME/],
    ['a time that is none', { from: 'billing/api', to: 'billing/db:1', expect: 'deny', at: 'noon' }, /is not a time/],
  ];
  for (const [name, assertion, failure] of failing) {
    it(`fails for ${name}`, () => {
      const result = run(assertion);
      assert.equal(result.isPassed, false);
      assert.match(result.failure ?? '', failure);
    });
  }

  it('takes a name that nothing has for a service account, and says so', () => {
    const result = run({ from: 'billing/apu', to: 'billing/db:5432', expect: 'deny' });
    assert.equal(result.isPassed, true);
    assert.match(result.note ?? '', /nothing is registered as billing\/apu.*did you mean billing\/api/);
  });
});

describe('the tests of a rule', () => {
  it('say when they fail because the rule has expired', () => {
    const { resources } = parseDocuments(`
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: for-a-while }
spec:
  action: allow
  expiresAt: 2020-01-31T00:00:00Z
  tests:
    - { from: 203.0.113.1, to: "203.0.113.2:80", expect: allow }
    - { from: 203.0.113.1, to: "203.0.113.2:80", expect: allow, at: 2020-01-01T00:00:00Z }
---
apiVersion: culvert.dev/v1
kind: Mesh
metadata: { name: default }
spec: { defaultAction: deny }
`);
    const compiled = compileSnapshot(resources, {
      revision: 1,
      createdAt: '',
      createdBy: '',
      trustDomain: 'mesh.test',
    });
    assert.ok('snapshot' in compiled);
    const nowMs = (): number => Date.parse('2020-02-01T00:00:00Z');
    const problems = runRuleTests({ snapshot: compiled.snapshot, entries: [], resources, clock: { nowMs } });
    assert.deepEqual(
      problems.map(({ path }) => path),
      ['spec.tests[0]'],
    );
    assert.match(
      problems[0]?.message ?? '',
      /which allowed it, expired at 2020-01-31T00:00:00\.000Z; this rule expired at 2020-01-31T00:00:00Z/,
    );
    assert.match(problems[0]?.hint ?? '', /^give the rule a later expiresAt, delete it, or write `at`/);
  });
});

describe('a file of assertions', () => {
  const text = `apiVersion: culvert.dev/v1
kind: PolicyTest
metadata: { name: db }
spec:
  tests:
    - { from: billing/api, to: billing/db:5432, expect: allow, by: db-only }
    - { from: shop/web, to: billing/db:5432, expect: deny, at: 2027-01-31T00:00:00Z }
---
- { from: 10.0.0.1, to: billing/db:5432, expect: deny }
--- # a rule
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: db-only }
spec: { action: alow }
`;

  it('gives its assertions with their lines', () => {
    const { assertions, problems } = parsePolicyTests(text, { fileName: 'x.yaml' });
    assert.deepEqual(problems, []);
    assert.deepEqual(
      assertions.map(({ test, line, assertion }) => [test, line, assertion.from]),
      [
        ['db', 6, 'billing/api'],
        ['db', 7, 'shop/web'],
        [null, 9, '10.0.0.1'],
      ],
    );
  });

  it('leaves the other documents to the parser of resources, at their lines', () => {
    const rest = withoutPolicyTests(text);
    assert.equal(rest.isEmpty, false);
    const { problems } = parseDocuments(rest.text);
    assert.deepEqual(
      problems.map(({ line, path }) => [line, path]),
      [[14, 'spec.action']],
    );
    assert.equal(withoutPolicyTests(text.slice(0, text.indexOf('--- #'))).isEmpty, true);
  });

  it('reports all problems at once', () => {
    const { assertions, problems } = parsePolicyTests(`kind: PolicyTest
apiVersion: culvert.dev/v1
metadata: { name: db }
spec:
  tests:
    - { form: billing/api, to: billing/db:5432, expect: allowed }
---
[{ from: a/b, to: c/d:1, expect: deny, at: 2027-01-31 }]
---
a: [
`);
    assert.deepEqual(assertions, []);
    const found = problems
      .map(({ line, path, message, hint }) => `${String(line)} ${path} ${message} ${hint}`)
      .join('\n');
    assert.match(found, /6 spec\.tests\[0\]\.form is not a field here did you mean "from"\?/);
    assert.match(found, /6 spec\.tests\[0\]\.expect must not be "allowed" did you mean "allow"/);
    assert.match(found, /8 \[0\].at "2027-01-31" is not a time as RFC 3339/);
    assert.match(found, /is not valid YAML/);
  });
});
