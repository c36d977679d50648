import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { groupFiles } from '../../runner/file-groups.js';
import { secondsOf, secondsOfFiles } from '../../runner/file-seconds.js';

const sourceDirectory = path.resolve(import.meta.dirname, '../../../../test');

describe('test files that share a process', () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'culvert-file-groups-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  /** The names of the files of each group, in the order in which the groups begin. */
  function grouped(
    files: readonly string[],
    most: { filesPerProcess: number; secondsPerProcess: number },
    code = '',
  ): string[][] {
    const full = files.map((name) => path.join(directory, `${name}.test.js`));
    for (const file of full) {
      mkdirSync(path.dirname(file), { recursive: true });
      writeFileSync(file, code);
    }
    const groups = groupFiles({ ...most, files: full, builtDirectory: directory, entryDirectory: directory });
    return groups.map((group) => group.files.map((file) => path.relative(directory, file).replace('.test.js', '')));
  }

  it('are neighbours, as many as may share one', () => {
    const names = ['d', 'b', 'e', 'a', 'c'].map((name) => `unit/${name}`);
    const most = { filesPerProcess: 3, secondsPerProcess: Infinity };
    assert.deepEqual(grouped(names, most), [
      ['unit/a', 'unit/b', 'unit/c'],
      ['unit/d', 'unit/e'],
    ]);
  });

  it('do not take longer together than one process may', () => {
    const names = Array.from({ length: 20 }, (_, at) => `integration/quick-${at}`);
    const seconds = (group: readonly string[]): number =>
      group.reduce((sum, name) => sum + secondsOf(path.join(directory, `${name}.test.js`), directory), 0);
    const groups = grouped(names, { filesPerProcess: 12, secondsPerProcess: 30 });
    assert.deepEqual(groups.flat().sort(), [...names].sort());
    for (const group of groups) assert.ok(seconds(group) <= 30, `${group.join(', ')}: ${seconds(group)} s`);
    assert.ok(groups.length <= 3, `${groups.length} processes`);
  });

  it('begin in the order of what they take, and a file that takes long has a process of its own', () => {
    const names = [
      'integration/a',
      'integration/b',
      'integration/controller/kubernetes/cluster-rules',
      'integration/controller/stand-by',
    ];
    assert.deepEqual(grouped(names, { filesPerProcess: 12, secondsPerProcess: 150 }), [
      ['integration/controller/stand-by'],
      ['integration/controller/kubernetes/cluster-rules'],
      ['integration/a', 'integration/b'],
    ]);
  });

  it('are no files that measure or change their process', () => {
    const most = { filesPerProcess: 12, secondsPerProcess: 150 };
    for (const text of ['process.chdir("/");', 'const reactor = Reactor.ofThread();', 'monitorEventLoopDelay();'])
      assert.deepEqual(grouped(['unit/a', 'unit/b'], most, text), [['unit/a'], ['unit/b']], text);
  });

  it('are ordered by seconds of files that are there', () => {
    for (const file of Object.keys(secondsOfFiles))
      assert.ok(existsSync(path.join(sourceDirectory, `${file}.test.ts`)), `no file is ${file}`);
  });
});
