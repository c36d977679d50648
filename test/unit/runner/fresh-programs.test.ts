import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it } from 'node:test';
import { requireFreshPrograms } from '../../runner/fresh-programs.js';

/** A build whose programs are bundled at second 100, and one module that the compiler wrote at `compiledAt`. */
function check(file: string, compiledAt: number): void {
  const built = mkdtempSync(path.join(tmpdir(), 'culvert-build-'));
  try {
    for (const each of ['agent/control', 'controller', 'shared', 'programs']) {
      mkdirSync(path.join(built, each), { recursive: true });
    }
    writeFileSync(path.join(built, file), '');
    utimesSync(path.join(built, file), compiledAt, compiledAt);
    utimesSync(path.join(built, 'programs'), 100, 100);
    requireFreshPrograms(built);
  } finally {
    rmSync(built, { recursive: true });
  }
}

describe('programs that labs run', () => {
  it('are refused when a module is newer', () => {
    assert.throws(() => check('agent/control/app.js', 101), { code: 'PROGRAMS_STALE' });
    assert.throws(() => check('shared/errors.js', 101), { code: 'PROGRAMS_STALE' });
  });

  it('are taken when they are as new as every module', () => {
    check('controller/app.js', 99);
    check('controller/app.d.ts', 101);
  });
});
