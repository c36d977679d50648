import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
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
});
