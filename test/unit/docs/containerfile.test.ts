import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { controllerUser } from '../../../controller/install/install-options.js';
import { imageUser } from '../../kubernetes/images/culvert-root.js';
import { declaredPrograms } from '../../lab/declared-programs.js';

type Instruction = { readonly name: string; readonly words: readonly string[] };

const stages = stagesOf(readFileSync('deploy/container/Containerfile', 'utf8'));

/** Instructions from one FROM to the next; what stands before the first FROM is a stage too. */
function stagesOf(text: string): Instruction[][] {
  const lines = text
    .replaceAll(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '' && !line.startsWith('#'));
  const result: Instruction[][] = [[]];
  for (const line of lines) {
    const [name = '', ...words] = line.trim().split(/\s+/);
    if (name === 'FROM') result.push([]);
    result.at(-1)?.push({ name, words });
  }
  return result;
}

test('the image is built in one stage, and the last stage has nothing but its result, and is not root', () => {
  const [args = [], build = [], last = []] = stages;
  assert.equal(stages.length, 3);
  assert.deepEqual(
    args.map(({ name }) => name),
    ['ARG'],
  );
  assert.deepEqual(build[0], { name: 'FROM', words: ['${NODE_IMAGE}', 'AS', 'build'] });
  assert.deepEqual(
    last.map(({ name }) => name),
    ['FROM', 'COPY', 'ENV', 'USER', 'CMD'],
  );
  assert.deepEqual(last[0]?.words, ['scratch']);
  assert.deepEqual(last[1]?.words, ['--from=build', '/image', '/']);
  assert.deepEqual(last[3]?.words, [`${imageUser}:${imageUser}`]);
  assert.equal(imageUser, controllerUser);
});

test('what is copied into the build is there, and all that the compiler reads is copied', () => {
  const copied = (stages[1] ?? []).filter(({ name }) => name === 'COPY').flatMap(({ words }) => words.slice(0, -1));
  for (const path of copied) assert.ok(existsSync(path), path);
  const { references } = JSON.parse(readFileSync('tsconfig.json', 'utf8')) as { references: { path: string }[] };
  for (const { path } of references) assert.ok(copied.includes(path.slice(2)), path);
});

test('the build installs the packages of all that agent, controller and build start, and no others', () => {
  const install = (stages[1] ?? []).find(({ words }) => words.includes('install'))?.words ?? [];
  const from = install.indexOf('--no-install-recommends') + 1;
  const installed = install.slice(from, install.indexOf('&&', from));
  // npm is in the image that the build starts from.
  const needed = declaredPrograms
    .filter(({ uses, command }) => uses.agent ?? uses.controller ?? (command === 'ldd' ? '' : uses.build))
    .flatMap(({ packages }) => packages);
  assert.deepEqual(installed.toSorted(), [...new Set([...needed, 'libc-bin'])].toSorted());
});
