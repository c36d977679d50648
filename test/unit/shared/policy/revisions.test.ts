import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import type { Connection } from '../../../../shared/policy/connection.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import { prepareSnapshot } from '../../../../shared/policy/prepared/prepared-snapshot.js';
import { plainRule, type CompiledRule, type Snapshot } from '../../../../shared/policy/snapshot.js';
import { applyPatch, patchBetween } from '../../../../shared/wire/snapshot-patch.js';
import {
  connection,
  now,
  peerMatch,
  policySnapshot,
  rule,
  snapshot,
} from '../../../support/rules/policy-arbitraries.js';
import { meshed, snapshotOf } from '../../../support/rules/policy-fixture.js';
import { propertyRuns } from '../../../support/property-runs.js';

/** The first one whole, and what each of the next has of a common stock of rules, in its order. */
const revisions = fc
  .record({ first: snapshot, second: snapshot, stock: fc.array(rule, { minLength: 1, maxLength: 8 }) })
  .chain(({ first, second, stock }) => {
    const known = [...first.rules, ...stock.map((written, index) => named(written, index))];
    const rest = fc.constantFrom(first, second);
    const later = fc.record({ rules: fc.shuffledSubarray(known), rest });
    return fc
      .array(later, { minLength: 1, maxLength: 5 })
      .map((others): Snapshot[] => [
        first,
        ...others.map((other, index) => ({ ...other.rest, revision: index + 2, rules: other.rules })),
      ]);
  });

function named(written: Partial<CompiledRule>, index: number): CompiledRule {
  return { ...snapshotOf({ rules: [{ ...plainRule, ...written }] }).rules[0]!, name: `s${index}` };
}

function decisions(rules: Snapshot, connections: readonly Connection[], nowMs: number): unknown[] {
  return connections.map((each) => {
    const { verdict, reason, rule: ref, onChange, audited } = evaluate(rules, each, { nowMs: () => nowMs });
    return { verdict, reason, ref, onChange, audited };
  });
}

/** Each takes some policies of a common stock, so that namespaces stay, change, and go. */
const policyRevisions = fc.tuple(policySnapshot, policySnapshot).chain(([first, second]) => {
  const renamed = second.authorizationPolicies.map((policy) => ({ ...policy, name: `s${policy.name}` }));
  const later = fc.record({
    authorizationPolicies: fc.shuffledSubarray([...first.authorizationPolicies, ...renamed]),
    networkPolicies: fc.shuffledSubarray([...first.networkPolicies, ...second.networkPolicies]),
  });
  return fc
    .array(later, { minLength: 1, maxLength: 5 })
    .map((others): Snapshot[] => [
      first,
      ...others.map((other, index) => ({ ...first, ...other, revision: index + 2 })),
    ]);
});

/** Rules that stay the same objects, while what is in the segments that they name changes. */
const segmentRevisions = fc
  .tuple(snapshot, fc.array(fc.array(peerMatch, { maxLength: 2 }), { minLength: 4, maxLength: 8 }))
  .map(([first, stock]): Snapshot[] => {
    const rules = first.rules.map((each, index) => ({
      ...each,
      from: index % 2 === 0 ? [{ memberOf: 'outer' }] : each.from,
      to: index % 2 === 1 ? [...each.to, { memberOf: 'inner' }] : each.to,
    }));
    const inners = stock.map((members) => ({ name: 'inner', members }));
    const outers = stock.map((members) => ({ name: 'outer', members: [{ memberOf: 'inner' }, ...members] }));
    return stock.map((_, index) => {
      const [inner, outer] = [inners[index >> 1], outers[(index + 1) >> 1]];
      assert.ok(inner && outer);
      return { ...first, rules, revision: index + 1, segments: [inner, outer] };
    });
  });

describe('revisions that follow each other', () => {
  it('follow the members of a segment, although the rules that name it stay', () => {
    fc.assert(
      fc.property(segmentRevisions, fc.array(connection, { minLength: 1, maxLength: 6 }), (all, connections) => {
        let previous: Snapshot | null = null;
        for (const revision of all) {
          prepareSnapshot(revision, previous);
          assert.deepEqual(decisions(revision, connections, 5), decisions({ ...revision }, connections, 5));
          previous = revision;
        }
      }),
      { numRuns: propertyRuns(300) },
    );
  });

  it('are decided as each of them would be alone, the older ones too', () => {
    fc.assert(
      fc.property(
        revisions,
        fc.array(connection, { minLength: 1, maxLength: 6 }),
        now,
        (sequence, connections, nowMs) => {
          let previous: Snapshot | null = null;
          for (const revision of sequence) {
            prepareSnapshot(revision, previous);
            assert.deepEqual(
              decisions(revision, connections, nowMs),
              decisions(structuredClone(revision), connections, nowMs),
            );
            previous = revision;
          }
          for (const revision of sequence) {
            // As if no question had come before the later ones.
            const copy = { ...revision };
            assert.deepEqual(decisions(revision, connections, nowMs), decisions(copy, connections, nowMs));
          }
        },
      ),
      { numRuns: propertyRuns(150) },
    );
  });

  it('are decided so also when policies come and go', () => {
    fc.assert(
      fc.property(policyRevisions, fc.array(connection, { minLength: 1, maxLength: 6 }), (sequence, connections) => {
        let previous: Snapshot | null = null;
        for (const revision of sequence) {
          prepareSnapshot(revision, previous);
          assert.deepEqual(decisions(revision, connections, 5), decisions(structuredClone(revision), connections, 5));
          previous = revision;
        }
        for (const revision of sequence) {
          assert.deepEqual(decisions(revision, connections, 5), decisions({ ...revision }, connections, 5));
        }
      }),
      { numRuns: propertyRuns(150) },
    );
  });

  it('share what is known of a namespace whose policies stay', () => {
    const first = snapshotOf({ policies: [{ namespace: 'a' }, { namespace: 'b' }] });
    const [a, b] = first.authorizationPolicies;
    assert.ok(a !== undefined && b !== undefined);
    const second = { ...first, revision: 2, authorizationPolicies: [a, { ...b, action: 'DENY' as const }] };
    const [before, after] = [prepareSnapshot(first), prepareSnapshot(second, first)];
    const selection = (of: typeof before, name: string) =>
      of.destination(meshed(name, '10.0.0.1', { labels }), 1).policies[0];
    const labels = { app: 'x' };
    assert.ok(selection(before, 'a/x') !== undefined);
    assert.equal(selection(after, 'a/x'), selection(before, 'a/x'));
    assert.notEqual(selection(after, 'b/x'), selection(before, 'b/x'));
  });

  it('are rebuilt from what each changes, with everything else the same object', () => {
    fc.assert(
      fc.property(revisions, (sequence) => {
        let sent: Snapshot | null = null;
        let held: Snapshot | null = null;
        for (const revision of sequence) {
          const patch = structuredClone(patchBetween(sent, revision));
          const next: Snapshot = applyPatch(held, patch);
          assert.deepEqual(plain(next), plain(revision));
          const old: ReadonlySet<CompiledRule> = new Set(held?.rules);
          const kept: string[] = next.rules.filter((each) => old.has(each)).map(({ name }) => name);
          const expected: string[] = revision.rules
            .filter((each) => sent?.rules.includes(each) === true)
            .map(({ name }) => name);
          assert.deepEqual(kept, expected);
          [sent, held] = [revision, next];
        }
      }),
    );
  });

  it('send a change of one rule among many as that rule', () => {
    const before = snapshotOf({ rules: Array.from({ length: 1000 }, (_, index) => ({ priority: index })) });
    const changed = before.rules.map((each, index) => (index === 500 ? { ...each, action: 'deny' as const } : each));
    const { lists } = patchBetween(before, { ...before, revision: 2, rules: changed });
    assert.deepEqual(lists['rules'], [{ keep: [0, 500] }, { add: [changed[500]] }, { keep: [501, 499] }]);
  });

  it('are not mixed up: a change of another revision is refused', () => {
    const [first, second] = [snapshotOf({ rules: [{}] }), { ...snapshotOf({}), revision: 2 }];
    const patch = patchBetween(second, { ...second, revision: 3 });
    assert.throws(() => applyPatch(first, patch), RangeError);
    assert.throws(() => applyPatch(null, patch), RangeError);
  });

  it('begin again when most of what is remembered is of rules that went', () => {
    const many = Array.from({ length: 8000 }, (_, index) => ({ from: [{ serviceAccounts: [`a/x${index}`] }] }));
    const first = snapshotOf({ rules: many });
    const second = { ...first, revision: 2, rules: first.rules.slice(0, 1) };
    assert.ok(prepareSnapshot(first).reusableParts !== undefined);
    assert.equal(prepareSnapshot(second, first).reusableParts, undefined);
    const third = { ...second, revision: 3 };
    assert.ok(prepareSnapshot(third, second).reusableParts !== undefined);
    const ask = connection0();
    assert.equal(evaluate(third, ask, { nowMs: () => 0 }).verdict, 'allow');
    assert.equal(evaluate(first, ask, { nowMs: () => 0 }).verdict, 'allow');
  });
});

function plain(value: Snapshot): unknown {
  return JSON.parse(JSON.stringify(value));
}

function connection0(): Connection {
  return { source: meshed('a/x0', '10.0.0.1'), destination: meshed('a/y', '10.0.0.2'), port: 1 };
}
