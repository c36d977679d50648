import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { findTestFiles, suites, type SuiteName } from '../../runner/suites.js';

describe('the search for test files', () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'culvert-suites-'));
    write('dist/unit', ['b.test.js', 'b.test.js.map', 'deep/a.test.js', 'fixture.js', 'moved.test.js']);
    write('src/unit', ['b.test.ts', 'deep/a.test.ts', 'deep/moved.test.ts', 'fixture.ts', 'new.test.ts']);
    write('dist/e2e', ['paths.test.js', 'cli.test.js']);
    write('src/e2e', ['paths.test.ts', 'cli.test.ts']);
  });
  after(() => rmSync(directory, { recursive: true }));

  function write(folder: string, files: readonly string[]): void {
    for (const file of files) {
      const full = path.join(directory, folder, file);
      mkdirSync(path.dirname(full), { recursive: true });
      writeFileSync(full, '');
    }
  }

  function found(suite: SuiteName, filter: RegExp | null = null): string[] {
    const builtDirectory = path.join(directory, 'dist');
    const files = findTestFiles({ suite, filter, builtDirectory, sourceDirectory: path.join(directory, 'src') });
    return files.map((file) => path.relative(builtDirectory, file));
  }

  it('finds those of a suite, in folders too, and filters them', () => {
    assert.deepEqual(found('unit', /deep/), ['unit/deep/a.test.js']);
    assert.deepEqual(found('contract'), []);
  });

  it('leaves out compiled files whose source was moved or deleted', () => {
    assert.deepEqual(found('unit'), ['unit/b.test.js', 'unit/deep/a.test.js']);
  });

  it('leaves out for the second Node of the gate what ends alike with any, by the names of files that are there', () => {
    const builtDirectory = path.resolve(import.meta.dirname, '../..');
    const sourceDirectory = path.resolve(builtDirectory, '../../test');
    const kept: Readonly<Record<'unit' | 'integration', readonly RegExp[]>> = {
      unit: [
        /unit\/agent\//,
        /shared\/(?:http|pki|program|routing|wire)\//,
        /controller\/(?:api|ca|resources|store)\//,
        /published\//,
      ],
      integration: [
        /agent\/native\/(?!build\.)/,
        /dataplane\/tunnel\//,
        /agent-process/,
        /controller-process/,
        /shared\/bus\//,
        /kubernetes\/(?:reflector|kubernetes-source|admission|lease)\./,
      ],
    };
    for (const suite of ['unit', 'integration'] as const) {
      const search = { suite, filter: null, builtDirectory, sourceDirectory } as const;
      const all = findTestFiles(search).map((file) => path.relative(builtDirectory, file));
      const second = findTestFiles({ ...search, isSecondNode: true }).map((file) =>
        path.relative(builtDirectory, file),
      );
      for (const pattern of suites[suite].sameWithAnyNode) {
        for (const name of namesOf(pattern))
          assert.ok(
            all.some((file) => file.includes(name)),
            `no file is ${name}`,
          );
        assert.deepEqual(
          second.filter((file) => pattern.test(file)),
          [],
        );
      }
      for (const each of kept[suite]) {
        const found = all.filter((file) => each.test(file));
        assert.ok(found.length > 0, `no file is like ${each}`);
        assert.deepEqual(
          second.filter((file) => each.test(file)),
          found,
        );
      }
    }
  });

  it('finds the part of the end-to-end files that is run again with one worker', () => {
    assert.deepEqual(found('e2e-one-worker'), ['e2e/paths.test.js']);
  });
});

/** The paths that a pattern such as `/room\/(?:one|two)\./` lists. */
function namesOf({ source }: RegExp): string[] {
  const [before = '', listed, after = ''] = source.replaceAll('\\', '').split(/\(\?:|\)/);
  return (listed === undefined ? [''] : listed.split('|')).map((name) => `${before}${name}${after}`);
}
