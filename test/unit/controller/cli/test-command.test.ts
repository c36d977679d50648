import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { culvert } from '../../../support/controller/cli-fixture.js';

const workloads = `
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: api, namespace: billing }
spec: { serviceAccount: api, addresses: [198.18.0.1], node: host-a, netns: api }
---
apiVersion: culvert.dev/v1
kind: Workload
metadata: { name: db, namespace: billing }
spec: { serviceAccount: db, addresses: [198.18.0.2], node: host-a, netns: db }
---
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: db-only }
spec:
  action: allow
  from: [{ serviceAccount: billing/api }]
  to: [{ serviceAccount: billing/db }]
  ports: [5432]
  tests:
    - { from: billing/api, to: "billing/db:5432", expect: allow }
---
`;

function policyTest(...tests: readonly string[]): string {
  const list = tests.map((one) => `    - { ${one} }`).join('\n');
  return `apiVersion: culvert.dev/v1\nkind: PolicyTest\nmetadata: { name: billing }\nspec:\n  tests:\n${list}\n`;
}

function test(stdin: string, ...options: readonly string[]) {
  return culvert(['test', '-f', '-', ...options], { stdin });
}

const right = 'from: billing/api, to: "billing/db:5432", expect: allow, by: db-only';
const wrongRule = 'from: billing/api, to: "billing/db:5432", expect: allow, by: "<other>"';
const wrongVerdict = 'from: billing/db, to: "billing/api:80", expect: deny';

describe('culvert test', () => {
  it('runs PolicyTests and the tests of rules without a controller', async () => {
    const { code, out } = await test(workloads + policyTest(right));
    assert.equal(code, 0, out);
    assert.match(out, /^ok {6}billing\/api to billing\/db:5432: allow by db-only {2}by SegmentationRule\/db-only$/m);
    assert.match(out, /2 passed, 0 failed$/);
  });

  it('fails when the verdict is right by the wrong rule, and names the line', async () => {
    const { code, out, err } = await test(workloads + policyTest(right, wrongRule));
    assert.equal(code, 1);
    assert.match(out, /is allowed, but by SegmentationRule\/db-only and not by <other>\n {8}at <stdin>:\d+, billing/);
    const line = Number(/<stdin>:(\d+)/.exec(out)?.[1]);
    assert.ok((workloads + policyTest(right, wrongRule)).split('\n')[line - 1]?.includes('<other>'), String(line));
    assert.match(err, /1 of 3 tests failed/);
  });

  it('says that the rule of a failed test has expired, or does not hold yet', async () => {
    const closed =
      '---\napiVersion: culvert.dev/v1\nkind: Mesh\nmetadata: { name: default }\nspec: { defaultAction: deny }\n';
    const limited = (fields: string) => workloads.replace('action: allow', `action: allow\n  ${fields}`) + closed;
    const expired = await test(limited('expiresAt: 2020-01-31T00:00:00Z'));
    assert.equal(expired.code, 1);
    assert.match(
      expired.out,
      /should be allowed, but SegmentationRule\/db-only, which allowed it, expired at 2020-01-31T00:00:00\.000Z; /,
    );
    assert.match(
      expired.out,
      /this rule expired at 2020-01-31T00:00:00Z and says nothing any more: give the rule a later expiresAt/,
    );
    const early = await test(limited('validFrom: 2999-01-31T00:00:00Z'));
    assert.match(
      early.out,
      /but Mesh\/default denies it; this rule holds only from 2999-01-31T00:00:00Z on: write `at`/,
    );
    const pinned = limited('expiresAt: 2020-01-31T00:00:00Z').replace(
      'expect: allow }',
      'expect: allow, at: 2019-01-01T00:00:00Z }',
    );
    assert.equal((await test(pinned)).code, 0);
  });

  it('writes TAP', async () => {
    const { code, out } = await test(workloads + policyTest(right, wrongVerdict), '--output', 'tap');
    assert.equal(code, 1);
    const lines = out.split('\n');
    assert.deepEqual(lines.slice(0, 2), ['TAP version 13', '1..3']);
    assert.deepEqual(
      lines.filter((line) => /^(?:not )?ok /.test(line)),
      [
        'ok 1 - billing/api to billing/db:5432: allow by db-only',
        'not ok 2 - billing/db to billing/api:80: deny',
        'ok 3 - billing/api to billing/db:5432: allow',
      ],
    );
  });

  it('writes JUnit with what XML needs escaped', async () => {
    const { code, out } = await test(workloads + policyTest(wrongRule), '--output', 'junit');
    assert.equal(code, 1);
    assert.match(out, /^<\?xml version="1.0" encoding="UTF-8"\?>\n<testsuites tests="2" failures="1" /);
    assert.match(out, /<testsuite name="billing" tests="1" failures="1"/);
    assert.match(out, /<failure message="[^"<]*not by &lt;other&gt;">/);
    assert.equal(out.match(/<testcase /g)?.length, 2);
  });

  it('gives programs every result', async () => {
    const { out } = await test(workloads + policyTest(right), '-o', 'json');
    const results = JSON.parse(out) as { isPassed: boolean; test: string }[];
    assert.deepEqual(
      results.map((result) => [result.test, result.isPassed]),
      [
        ['billing', true],
        ['SegmentationRule/db-only', true],
      ],
    );
  });

  it('lists all problems of documents and of tests together', async () => {
    const broken = workloads.replace('action: allow', 'action: maybe');
    const { code, err } = await test(broken + policyTest('from: billing/api, to: nowhere, expect: perhaps'));
    assert.equal(code, 1);
    assert.match(err, /spec\.action: /);
    assert.match(err, /PolicyTest\/billing: spec\.tests\[0\]\.to: /);
    assert.match(err, /spec\.tests\[0\]\.expect: /);
  });

  it('tells what is no YAML once', async () => {
    const { code, err } = await test('a: [1');
    assert.equal(code, 1);
    assert.equal(err.match(/not valid YAML/g)?.length, 1, err);
  });

  it('refuses files without a test', async () => {
    const { code, err } = await test(workloads.replace(/ {2}tests:\n.*\n/, ''));
    assert.equal(code, 64);
    assert.match(err, /these files contain no tests/);
  });
});
