import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fillReadme, readmeBlocks } from '../../docs/readme-blocks.js';

const readme = readFileSync('README.md', 'utf8');
const architecture = readFileSync('ARCHITECTURE.md', 'utf8');

test('the tables of the README are those of the code', () => {
  for (const name of Object.keys(readmeBlocks)) {
    assert.ok(readme.includes(`<!-- generated: ${name} -->`), `the README has no mark for "${name}"`);
  }
  assert.equal(readme, fillReadme(readme), 'the README is behind the code: run "npm run docs"');
});

test('every file that README and ARCHITECTURE name exists', () => {
  const paths = [...`${readme}\n${architecture}`.matchAll(/`((?:agent|controller|shared|test|deploy)\/[\w./-]+)`/g)];
  assert.ok(paths.length > 20, 'ARCHITECTURE.md names the files of the road of a connection');
  const missing = paths.map((match) => match[1] ?? '').filter((path) => !existsSync(path));
  assert.deepEqual(missing, []);
});
