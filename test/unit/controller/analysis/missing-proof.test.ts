import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { explain } from '../../../../controller/api/explain.js';
import type { CompiledRevision } from '../../../../controller/release/compiled-revision.js';
import { lintSet } from '../../../../controller/analysis/lint/lint-set.js';
import { runAssertions } from '../../../../controller/analysis/tests/assertions.js';
import { compileDocuments, networkPolicy } from '../../../support/rules/policy-published-fixture.js';
import { workloadEntry } from '../../../support/rules/analysis-fixture.js';
import { clock } from '../../../support/rules/policy-fixture.js';
import { culvert } from '../../../support/controller/cli-fixture.js';

const api = { podSelector: { matchLabels: { app: 'api' } } };
const fromApi = networkPolicy('from-api', 'billing', {
  podSelector: { matchLabels: { app: 'db' } },
  ingress: [{ from: [api] }],
});
const db = workloadEntry('billing/db', ['198.18.0.1']);
const unmeshed = workloadEntry('billing/api', ['198.18.0.2'], { node: null });
const meshed = workloadEntry('billing/api', ['198.18.0.2']);

function tested(expect: 'allow' | 'deny', source = unmeshed) {
  const assertions = [{ from: 'billing/api', to: 'billing/db:5432', expect }] as const;
  const [result] = runAssertions({ snapshot: compileDocuments(fromApi), entries: [db, source], assertions, clock });
  return result;
}

const sentence =
  'billing/api has no agent and proves no identity; with one, NetworkPolicy/billing/from-api would allow it (give the Workload a node with an agent, and a netns)';

describe('a registered workload without an agent', () => {
  it('is denied what is allowed by its labels, and a test says why', () => {
    const { isPassed, unproved } = tested('allow') ?? {};
    assert.deepEqual([isPassed, unproved], [false, sentence]);
  });

  it('is mentioned by a test that passes because of it, and by none for which a proof changes nothing', () => {
    assert.equal(tested('deny')?.unproved, sentence);
    assert.deepEqual([tested('allow', meshed)?.isPassed, tested('allow', meshed)?.unproved], [true, null]);
  });

  it('is found by lint where only an identity would let a rule allow it', () => {
    const kindsOf = (source: typeof meshed, ...documents: readonly object[]) =>
      lintSet({ snapshot: compileDocuments(...documents), entries: [db, source], clock })
        .filter(({ kind }) => kind === 'no identity')
        .map(({ resource, other }) => [resource, other]);
    assert.deepEqual(kindsOf(unmeshed, fromApi), [['Workload/billing/api', 'NetworkPolicy/billing/from-api']]);
    assert.deepEqual(kindsOf(meshed, fromApi), []);
    const byAddress = networkPolicy('p', 'billing', {
      podSelector: {},
      ingress: [{ from: [{ ipBlock: { cidr: '198.18.0.0/15' } }] }],
    });
    assert.deepEqual(kindsOf(unmeshed, byAddress), []);
    const rule = { apiVersion: 'culvert.dev/v1', kind: 'SegmentationRule', metadata: { name: 'r' } };
    const from = [{ serviceAccount: 'billing/api' }];
    assert.deepEqual(kindsOf(unmeshed, { ...rule, spec: { action: 'allow', from } }), [
      ['Workload/billing/api', 'SegmentationRule/r'],
    ]);
    assert.deepEqual(kindsOf(unmeshed, { ...rule, spec: { action: 'deny', from } }), []);
  });

  it('is explained by culvert why, with the rule that an identity would be judged by', async () => {
    const release = {
      snapshot: compileDocuments(fromApi),
      state: { resources: new Map() },
    } as unknown as CompiledRevision;
    const notesFor = async (source: typeof meshed) => {
      const question = { source: 'billing/api', destination: 'billing/db', port: 5432 };
      const agentOf = () => ({ hasAgent: true, problem: null });
      const entries = [db, source];
      return (await explain({ release, entries, probersOf: () => [], agentOf }, question, clock)).notes.join('\n');
    };
    assert.match(
      await notesFor(unmeshed),
      /This decides: the source has no agent .*NetworkPolicy\/billing\/from-api would allow it \(give .*\)\.$/,
    );
    assert.doesNotMatch(await notesFor(meshed), /This decides/);
  });

  it('is explained in the report of culvert test', async () => {
    const workload = (name: string, spec: object) => ({
      apiVersion: 'culvert.dev/v1',
      kind: 'Workload',
      metadata: { name, namespace: 'billing', labels: { app: name } },
      spec,
    });
    const documents = [
      fromApi,
      workload('db', { addresses: ['198.18.0.1'], node: 'host-a', netns: 'db' }),
      workload('api', { addresses: ['198.18.0.2'] }),
      {
        apiVersion: 'culvert.dev/v1',
        kind: 'PolicyTest',
        metadata: { name: 't' },
        spec: { tests: [{ from: 'billing/api', to: 'billing/db:5432', expect: 'allow' }] },
      },
    ];
    const stdin = documents.map((document) => JSON.stringify(document)).join('\n---\n');
    const { code, out } = await culvert(['test', '-f', '-'], { stdin });
    assert.equal(code, 1);
    assert.ok(out.includes(sentence), out);
  });
});
