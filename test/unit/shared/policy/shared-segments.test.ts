import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { CulvertError } from '../../../../shared/errors.js';
import { evaluate } from '../../../../shared/policy/evaluate.js';
import { prepareSnapshot } from '../../../../shared/policy/prepared/prepared-snapshot.js';
import type { CompiledSegment, RulePeer } from '../../../../shared/policy/snapshot.js';
import { applyPatch, patchBetween } from '../../../../shared/wire/snapshot-patch.js';
import { snapshotSchema } from '../../../../shared/wire/snapshot-schema.js';
import { clock, connection, snapshotOf } from '../../../support/rules/policy-fixture.js';

function withSegments(from: readonly RulePeer[], ...segments: CompiledSegment[]) {
  return snapshotOf({ rules: [{ name: 'r', from }], rest: { segments } });
}

const apis = { name: 'apis', members: [{ serviceAccounts: ['billing/api'] }] };
const all = { name: 'all', members: [{ memberOf: 'apis' }, { labels: { app: 'other' } }] };

describe('a segment that rules share', () => {
  it('is named by the explanation of a decision, as the one that the rule names', () => {
    const { verdict, trace } = evaluate(withSegments([{ memberOf: 'all' }], apis, all), connection(), clock, {
      trace: true,
    });
    assert.equal(verdict, 'allow');
    assert.match(trace.at(-1)?.detail ?? '', /^source billing\/api is in segment all;/);
    const missed = evaluate(
      withSegments([{ memberOf: 'empty' }], { name: 'empty', members: [] }),
      connection(),
      clock,
      {
        trace: true,
      },
    );
    assert.equal(missed.verdict, 'deny');
    assert.match(missed.trace[1]?.detail ?? '', /source billing\/api is not in segment empty/);
  });

  const invalid: Readonly<Record<string, ReturnType<typeof withSegments>>> = {
    'is missing': withSegments([{ memberOf: 'apis' }]),
    'names one that is missing': withSegments([], all),
    'comes before one that it names, as in a circle': withSegments([], all, apis),
  };
  for (const [what, snapshot] of Object.entries(invalid)) {
    it(`makes rules unusable when it ${what}: nothing is decided without its members`, () => {
      assert.throws(
        () => prepareSnapshot(snapshot),
        (error) => error instanceof CulvertError && error.code === 'SNAPSHOT_INVALID',
      );
    });
  }

  it('travels, and is refused with what could narrow or widen the reference', () => {
    const snapshot = withSegments([{ memberOf: 'all' }], apis, all);
    assert.deepEqual(snapshotSchema.parse(snapshot), snapshot);
    assert.deepEqual(applyPatch(null, patchBetween(null, snapshot)), snapshot);
    for (const peer of [{ memberOf: 'all', namespaces: ['x'] }, { memberOf: '' }, { memberOf: ['all'] }]) {
      const changed = { ...snapshot, rules: [{ ...snapshot.rules[0], from: [peer] }] };
      assert.equal(snapshotSchema.safeParse(changed).success, false, JSON.stringify(peer));
    }
  });

  it('is changed for the workers alone: the rules that name it are not sent again', () => {
    const before = withSegments([{ memberOf: 'all' }], apis, all);
    const changed = { name: 'apis', members: [{ serviceAccounts: ['billing/web'] }] };
    const { lists } = patchBetween(before, { ...before, revision: 2, segments: [changed, all] });
    assert.deepEqual(lists['rules'], [{ keep: [0, 1] }]);
    assert.deepEqual(lists['segments'], [{ add: [changed] }, { keep: [1, 1] }]);
  });
});
