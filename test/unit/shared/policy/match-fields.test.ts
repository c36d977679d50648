import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { peerFieldNames } from '../../../../controller/resources/match/peer-fields.js';
import { matchFieldNames, matchFields } from '../../../../shared/policy/match-fields.js';
import { prepareSnapshot } from '../../../../shared/policy/prepared/prepared-snapshot.js';
import type { PeerMatch, Snapshot } from '../../../../shared/policy/snapshot.js';
import { snapshotSchema } from '../../../../shared/wire/snapshot-schema.js';
import { snapshotOf } from '../../../support/rules/policy-fixture.js';

describe('a field of PeerMatch', () => {
  it('has one row in each of the two tables', () => {
    assert.deepEqual([...matchFieldNames].sort(), [...peerFieldNames].sort());
  });
});

describe('a snapshot from the wire', () => {
  const values = { names: ['10.0.0.0/8'], labels: { app: 'api' }, flag: true, text: 'a/b' };
  const wrong = { names: 'a', labels: ['a'], flag: false, text: ['a'] };

  /** A rule of which one side is this match. */
  function withMatch(match: object, side: 'from' | 'to'): Snapshot {
    return snapshotOf({ rules: [{ action: 'deny', [side]: [match as PeerMatch] }] });
  }

  for (const side of ['from', 'to'] as const) {
    it(`is accepted with every field of a match, and refused when its value has another form (${side})`, () => {
      for (const name of matchFieldNames) {
        const { form } = matchFields[name];
        const good = snapshotSchema.safeParse(withMatch({ [name]: values[form] }, side));
        assert.ok(good.success, name);
        assert.deepEqual(good.data.rules[0]?.[side], [{ [name]: values[form] }]);
        prepareSnapshot(good.data);
        const bad = snapshotSchema.safeParse(withMatch({ [name]: wrong[form] }, side));
        assert.ok(!bad.success, name);
      }
    });

    it(`is refused for a field of a match that this version does not know, and never ignores it (${side})`, () => {
      for (const name of ['zones', 'Namespaces', 'constructor', '__proto__']) {
        const match = JSON.parse(`{"namespaces":["a"],${JSON.stringify(name)}:["x"]}`) as object;
        const { success, error } = snapshotSchema.safeParse(withMatch(match, side));
        assert.ok(!success, name);
        assert.match(JSON.stringify(error.issues), new RegExp(name));
        // Nor would the evaluator ignore what a schema let through.
        assert.throws(() => prepareSnapshot(withMatch(match, side)), { code: 'SNAPSHOT_INVALID' }, name);
      }
    });
  }
});
