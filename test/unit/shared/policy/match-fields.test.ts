import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { peerFieldNames } from '../../../../controller/resources/match/peer-fields.js';
import { matchFieldNames, matchFields } from '../../../../shared/policy/match-fields.js';
import { prepareSnapshot } from '../../../../shared/policy/prepared/prepared-snapshot.js';
import type { PeerMatch, Snapshot } from '../../../../shared/policy/snapshot.js';
import { snapshotSchema } from '../../../../shared/wire/snapshot-schema.js';
import { snapshotOf } from '../../../support/rules/policy-fixture.js';
import { runTool, withSourceCopy } from '../../../support/source-copy.js';

const snapshotFile = 'shared/policy/snapshot.ts';
const tables = ['controller/resources/match/peer-fields.ts', 'shared/policy/match-fields.ts'];

/** What the compiler says of the controller, and of what it shares with agents, when PeerMatch has one line more. */
function compileWith(line: string): string[] {
  return withSourceCopy((copy) => {
    const file = path.join(copy, snapshotFile);
    const text = readFileSync(file, 'utf8');
    const changed = text.replace('export type PeerMatch = {\n', (start) => `${start}${line}\n`);
    writeFileSync(file, changed);
    const { text: output } = runTool(copy, 'typescript/bin/tsc', ['-b', 'controller', '--pretty', 'false']);
    return output.split('\n').filter((each) => each.includes(': error '));
  });
}

describe('a field of PeerMatch', () => {
  it('does not compile without its row in the two tables', () => {
    const errors = compileWith('  readonly zones?: readonly string[];');
    assert.deepEqual(
      [...new Set(errors.map((error) => error.split('(', 1)[0] ?? ''))].sort(),
      tables,
      errors.join('\n'),
    );
    for (const table of tables) {
      assert.ok(
        errors.some((error) => error.startsWith(table) && error.includes("'zones'")),
        errors.join('\n'),
      );
    }
  });

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
