import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { parseDocuments } from '../../../../controller/resources/parse/parse-documents.js';
import type { Resource } from '../../../../controller/resources/kinds/resource.js';
import { validateSet } from '../../../../controller/compile/check/validate-set.js';
import { compileSnapshot } from '../../../../controller/compile/compile-snapshot.js';
import type { Connection, Party } from '../../../../shared/policy/connection.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import { overlapOfPeers } from '../../../../controller/compile/check/peer-overlap.js';
import type { PeerMatch, Snapshot } from '../../../../shared/policy/snapshot.js';
import {
  connection,
  labels,
  namespacedNames,
  namespaces,
  now,
  party,
  peerMatch,
  policySnapshot,
  snapshot,
} from '../../../support/rules/policy-arbitraries.js';
import { external, snapshotOf, trustDomain } from '../../../support/rules/policy-fixture.js';
import { withSharedSegments } from '../../../support/rules/shared-segments.js';
import { referenceAudited, referenceVerdict } from '../../../support/rules/policy-reference.js';
import { propertyHits, propertyRuns } from '../../../support/property-runs.js';

function verdict(rules: Snapshot, to: Connection, nowMs = 0): string {
  const { verdict, rule, reason } = evaluate(rules, to, { nowMs: () => nowMs });
  assert.equal(reason === 'OK', verdict === 'allow');
  if (rule.kind === 'Mesh') return `${verdict} default`;
  if (rule.kind === 'AuthorizationPolicy') return `${verdict} authorization`;
  if (rule.kind === 'NetworkPolicy') return `${verdict} network`;
  return `${verdict} ${reason === 'POLICY_EXPIRED' ? 'expired ' : ''}${rule.name}`;
}

function auditedNames(rules: Snapshot, to: Connection, nowMs: number): string[] {
  return evaluate(rules, to, { nowMs: () => nowMs }).audited.map(({ name }) => name);
}

describe('the evaluator', () => {
  it('agrees with the plain reference', () => {
    const seen = new Map<string, number>();
    fc.assert(
      // Many connections of one snapshot: what the evaluator keeps of one must not show in the next.
      fc.property(snapshot, fc.array(fc.tuple(connection, now), { minLength: 1, maxLength: 8 }), (rules, asked) => {
        for (const [to, nowMs] of asked) {
          const expected = referenceVerdict(rules, to, nowMs);
          const [first = '', second = ''] = expected.split(' ');
          const outcome = `${first} ${second.replace(/^r\d$/, 'rule')}`;
          seen.set(outcome, (seen.get(outcome) ?? 0) + 1);
          assert.equal(verdict(rules, to, nowMs), expected);
          const audited = referenceAudited(rules, to, nowMs);
          assert.deepEqual(auditedNames(rules, to, nowMs), audited);
          if (audited.length > 0) seen.set('audited', (seen.get('audited') ?? 0) + 1);
        }
      }),
      { numRuns: propertyRuns(1500) },
    );
    const outcomes = ['authorization', 'network', 'default', 'rule'].flatMap((by) => [`allow ${by}`, `deny ${by}`]);
    for (const outcome of [...outcomes, 'deny expired', 'audited']) {
      assert.ok(
        (seen.get(outcome) ?? 0) > propertyHits(20),
        `${outcome} came up ${seen.get(outcome) ?? 0} times: the worlds are too thin`,
      );
    }
  });

  it('decides by the members of shared segments as by members that rules list', () => {
    let ruled = 0;
    fc.assert(
      fc.property(snapshot, fc.array(fc.tuple(connection, now), { minLength: 1, maxLength: 8 }), (rules, asked) => {
        const shared = withSharedSegments(rules);
        for (const [to, nowMs] of asked) {
          const decided = verdict(rules, to, nowMs);
          assert.equal(verdict(shared, to, nowMs), decided);
          assert.equal(referenceVerdict(shared, to, nowMs), referenceVerdict(rules, to, nowMs));
          assert.deepEqual(auditedNames(shared, to, nowMs), auditedNames(rules, to, nowMs));
          const traced = evaluate(shared, to, { nowMs: () => nowMs }, { trace: true });
          assert.deepEqual(traced.trace.at(-1)?.rule, traced.rule);
          assert.equal(traced.verdict, decided.split(' ')[0]);
          if (/ r\d$/.test(decided)) ruled++;
        }
      }),
      { numRuns: propertyRuns(800) },
    );
    assert.ok(ruled > propertyHits(100), `a rule decided ${ruled} times`);
  });

  it('agrees with the plain reference among many policies', () => {
    const seen = new Map<string, number>();
    fc.assert(
      fc.property(policySnapshot, fc.array(connection, { minLength: 1, maxLength: 8 }), (rules, asked) => {
        for (const to of asked) {
          const expected = referenceVerdict(rules, to, 5);
          assert.equal(verdict(rules, to, 5), expected);
          seen.set(expected, (seen.get(expected) ?? 0) + 1);
        }
      }),
      { numRuns: propertyRuns(600) },
    );
    for (const outcome of ['allow authorization', 'deny authorization', 'allow network', 'deny network']) {
      assert.ok((seen.get(outcome) ?? 0) > propertyHits(20), `${outcome} came up ${seen.get(outcome) ?? 0} times`);
    }
  });

  it('agrees with the plain reference among so many policies that it remembers what it asked of a party', () => {
    const seen = new Map<string, number>();
    const many = <T>(list: readonly T[]): T[] => list.flatMap((each) => Array.from({ length: 20 }, () => each));
    fc.assert(
      fc.property(policySnapshot, fc.array(connection, { minLength: 1, maxLength: 8 }), (rules, asked) => {
        const repeated = {
          ...rules,
          authorizationPolicies: many(rules.authorizationPolicies),
          networkPolicies: many(rules.networkPolicies),
        };
        for (const to of asked) {
          const expected = referenceVerdict(rules, to, 5);
          assert.equal(verdict(repeated, to, 5), expected);
          seen.set(expected, (seen.get(expected) ?? 0) + 1);
        }
      }),
      { numRuns: propertyRuns(600) },
    );
    for (const outcome of ['allow authorization', 'deny authorization', 'allow network', 'deny network']) {
      assert.ok((seen.get(outcome) ?? 0) > propertyHits(20), `${outcome} came up ${seen.get(outcome) ?? 0} times`);
    }
  });

  it('names the first AuthorizationPolicy of a namespace that decides', () => {
    fc.assert(
      fc.property(policySnapshot, connection, (rules, to) => {
        const { rule } = evaluate(rules, to, { nowMs: () => 5 });
        if (rule.kind !== 'AuthorizationPolicy') return;
        // Those behind it in its namespace make no difference.
        const { authorizationPolicies: all } = rules;
        const position = all.findIndex(({ namespace, name }) => namespace === rule.namespace && name === rule.name);
        const kept = all.filter(({ namespace }, at) => at <= position || namespace !== rule.namespace);
        const again = evaluate({ ...rules, authorizationPolicies: kept }, to, { nowMs: () => 5 });
        assert.deepEqual(again.rule, rule);
      }),
      { numRuns: propertyRuns(600) },
    );
  });

  it('decides the same with a trace, and the trace ends with the decision', () => {
    fc.assert(
      fc.property(snapshot, connection, now, (rules, to, nowMs) => {
        const at = { nowMs: () => nowMs };
        const plain = evaluate(rules, to, at);
        const traced = evaluate(rules, to, at, { trace: true });
        assert.deepEqual({ ...traced, trace: [] }, plain);
        assert.deepEqual(traced.trace.at(-1)?.rule, plain.rule);
        const audited = traced.trace.filter(
          ({ outcome, detail }) => outcome === 'audit' && !/would (allow|pass)/.test(detail),
        );
        assert.deepEqual(
          audited.map((step) => step.rule),
          plain.audited,
        );
      }),
      { numRuns: propertyRuns(500) },
    );
  });
});

describe('overlapping peers', () => {
  it('are found whenever a party is in both', () => {
    fc.assert(
      fc.property(peerMatch, peerMatch, party, (a, b, someParty) => {
        const inBoth = [a, b].every((match) => isIn(match, someParty));
        if (inBoth) assert.notEqual(overlapOfPeers(a, b), undefined);
        assert.equal(overlapOfPeers(a, b) === undefined, overlapOfPeers(b, a) === undefined);
      }),
      { numRuns: propertyRuns(2000) },
    );
  });
});

function isIn(match: PeerMatch, someParty: Party): boolean {
  const rules = snapshotOf({ rules: [{ to: [match] }] });
  return verdict(rules, { source: external('192.0.2.1'), destination: someParty, port: 1 }) === 'allow r0';
}

describe('the order of documents', () => {
  const peer = fc.oneof(
    fc.record({ namespace: fc.constantFrom(...namespaces) }),
    fc.record({ serviceAccount: fc.constantFrom(...namespacedNames), node: fc.constantFrom('n1', 'n2') }),
    fc.record({ cidr: fc.constantFrom('10.0.0.0/8', '10.0.0.0/9'), except: fc.constant(['10.0.0.1']) }),
    fc.record({ labels }),
    fc.record({ segment: fc.constantFrom('s0', 's1') }),
  );
  const members = fc.array(
    peer.filter((candidate) => !('segment' in candidate)),
    { minLength: 1, maxLength: 3 },
  );
  const peers = fc.option(fc.array(peer, { minLength: 1, maxLength: 3 }), { nil: undefined });
  const documents = fc
    .record({
      s0: members,
      s1: members,
      rules: fc.array(
        fc.record({
          priority: fc.integer({ min: 1, max: 3 }),
          action: fc.constantFrom('allow', 'deny'),
          from: peers,
          to: peers,
        }),
        { minLength: 1, maxLength: 5 },
      ),
    })
    .map(({ s0, s1, rules }) => [
      { kind: 'Segment', metadata: { name: 's0' }, spec: { members: [...s0, { segment: 's1' }] } },
      { kind: 'Segment', metadata: { name: 's1' }, spec: { members: s1 } },
      { kind: 'Mesh', metadata: { name: 'default' }, spec: { defaultAction: 'deny' } },
      ...rules.map((spec, index) => ({ kind: 'SegmentationRule', metadata: { name: `r${index}` }, spec })),
    ]);

  function read(shuffled: readonly object[]): readonly Resource[] {
    const text = shuffled
      .map((document) => JSON.stringify({ apiVersion: 'culvert.dev/v1', ...document }))
      .join('\n---\n');
    const { resources, problems } = parseDocuments(text);
    assert.deepEqual(problems, []);
    return resources;
  }

  it('never changes a snapshot, whether it is refused, or a verdict', () => {
    const meta = { revision: 1, createdAt: '2026-01-01T00:00:00Z', createdBy: 'x', trustDomain };
    let accepted = 0;
    const shuffled = documents.chain((list) =>
      fc.tuple(fc.constant(list), fc.shuffledSubarray(list, { minLength: list.length })),
    );
    fc.assert(
      fc.property(shuffled, connection, ([list, other], to) => {
        const [first, second] = [read(list), read(other)];
        assert.equal(validateSet(first).length, validateSet(second).length);
        const [a, b] = [compileSnapshot(first, meta), compileSnapshot(second, meta)];
        assert.ok('snapshot' in a && 'snapshot' in b);
        assert.deepEqual(a, b);
        if (validateSet(first).some(({ severity }) => severity === 'error')) return;
        accepted++;
        assert.equal(verdict(a.snapshot, to), verdict(b.snapshot, to));
        // An accepted set has no ties: the other order of rules of one rank decides the same.
        const reversed = {
          ...a.snapshot,
          rules: [...a.snapshot.rules].reverse().sort((x, y) => x.priority - y.priority),
        };
        assert.equal(verdict(reversed, to).split(' ')[0], verdict(a.snapshot, to).split(' ')[0]);
      }),
      { numRuns: propertyRuns(500) },
    );
    assert.ok(accepted > propertyHits(50), `only ${accepted} sets were accepted`);
  });
});
