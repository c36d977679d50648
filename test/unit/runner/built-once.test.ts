import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { after, before, beforeEach, test } from 'node:test';
import { buildsVariable, builtOnce } from '../../support/program/built-once.js';

const outer = process.env[buildsVariable];
let run = '';
let built = 0;

function build(directory: string): void {
  built++;
  writeFileSync(path.join(directory, 'it'), String(built));
}

const textIn = (directory: string): string => readFileSync(path.join(directory, 'it'), 'utf8');

before(() => {
  run = mkdtempSync(path.join(tmpdir(), 'culvert-builds-'));
});
beforeEach(() => {
  built = 0;
  process.env[buildsVariable] = run;
});
after(() => {
  if (outer === undefined) delete process.env[buildsVariable];
  else process.env[buildsVariable] = outer;
  rmSync(run, { recursive: true });
});

test('a run builds a thing once, and keeps it', () => {
  for (let round = 0; round < 2; round++) {
    using found = builtOnce('kept', build);
    assert.equal(textIn(found.directory), '1');
  }
  assert.equal(built, 1);
  assert.deepEqual(readdirSync(run), ['kept']);
});

test('the second of two that build at once uses what the first has built', () => {
  using found = builtOnce('raced', (directory) => {
    using first = builtOnce('raced', build);
    assert.equal(textIn(first.directory), '1');
    build(directory);
  });
  assert.equal(textIn(found.directory), '1');
  assert.deepEqual(readdirSync(run), ['kept', 'raced']);
});

test('a build that fails leaves nothing, and the next one builds', () => {
  const failing = (directory: string): void => {
    build(directory);
    throw new Error('no compiler');
  };
  assert.throws(() => builtOnce('failed', failing), /no compiler/);
  assert.ok(!readdirSync(run).some((name) => name.includes('failed')));
  using found = builtOnce('failed', build);
  assert.equal(textIn(found.directory), '2');
});

test('a process that is in no run builds its own, and removes it', () => {
  delete process.env[buildsVariable];
  const builds = [builtOnce('own', build), builtOnce('own', build)];
  assert.deepEqual(
    builds.map(({ directory }) => textIn(directory)),
    ['1', '2'],
  );
  for (const each of builds) each[Symbol.dispose]();
  assert.ok(builds.every(({ directory }) => !existsSync(directory)));
});
