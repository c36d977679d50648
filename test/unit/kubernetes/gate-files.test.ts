import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { gateFiles, isGateFile } from '../../kubernetes/gate-files.js';

const suite = 'test/kubernetes/suite';

test('every file of the gate is there, and no other counts as one', () => {
  for (const name of gateFiles) assert.ok(existsSync(`${suite}/${name}.test.ts`), name);
  const all = readdirSync(suite, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.test.ts'));
  const found = all.filter((file) => isGateFile(path.join(suite, file))).map((file) => file.replace('.test.ts', ''));
  assert.deepEqual(found.sort(), [...gateFiles].sort());
  assert.equal(isGateFile(`/clone/dist/${suite}/own-cluster/paths.test.js`), true);
  assert.equal(isGateFile(`/clone/dist/${suite}/own-cluster/more-paths.test.js`), false);
});

test('.ci/run runs them after npm test, on a cluster of our own, and CONTRIBUTING names each', () => {
  const lines = readFileSync('.ci/run', 'utf8').split('\n');
  const commands = lines.filter((line) => /\bnpm (?:test|run)\b/.test(line) && !line.startsWith('#'));
  assert.equal(commands.length, 2, commands.join('\n'));
  assert.equal(commands[0], 'npm test </dev/null');
  assert.match(commands[1] ?? '', / KUBECONFIG='' npm run test:kubernetes -- --gate <\/dev\/null$/);
  assert.ok(lines.includes('set -euo pipefail'));
  const contributing = readFileSync('.github/CONTRIBUTING.md', 'utf8').replaceAll('\n', ' ');
  const [, named = ''] = /`npm run test:kubernetes -- --gate` \(([^)]+)\)/.exec(contributing) ?? [];
  const names = gateFiles.map((name) => path.basename(name));
  assert.deepEqual(named.replace(/ and /, ', ').split(', ').sort(), names.sort());
});
