import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

const token = 'nK3_xg-0Q1vRZyYt5b0nq7cS8i4l9d2eWfGhJkLmNoP';

/** Ends a process with 99 when it loads a library that costs more than the command itself. */
const watcher = `
  import { createRequire, register } from 'node:module';
  register('data:text/javascript,' + encodeURIComponent(
    'export async function resolve(name, context, next) {' +
    '  if (name === "yaml" || name === "zod") throw new Error("loads " + name);' +
    '  return next(name, context);' +
    '}'));
  const { cache } = createRequire('file:///');
  process.on('exit', () => {
    if (Object.keys(cache).some((path) => path.includes('/node_modules/yaml/'))) process.exitCode = 99;
  });`;

describe('the culvert command', () => {
  const main = fileURLToPath(new URL('../../../../controller/cli/main.js', import.meta.url));
  let directory = '';
  let context = '';
  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'culvert-cli-'));
    context = join(directory, 'admin.yaml');
    const block = '  -----BEGIN CERTIFICATE-----\n  AA==\n';
    writeFileSync(context, `controller: https://127.0.0.1:1\nca: |\n${block}token: ${token}\n`);
  });
  after(() => rmSync(directory, { recursive: true }));

  for (const argv of [['why', 'a/b', 'c/d:1'], ['apply', '-f', '-'], ['status']]) {
    it(`loads neither a YAML nor a schema library for "${argv.join(' ')}"`, () => {
      const preload = `data:text/javascript,${encodeURIComponent(watcher)}`;
      const { status, stderr } = spawnSync(
        process.execPath,
        ['--import', preload, main, '--context', context, ...argv],
        {
          encoding: 'utf8',
          timeout: 60_000,
          input: 'kind: Mesh\n',
        },
      );
      // It has got as far as it can: there is no controller.
      assert.match(stderr, /cannot reach the controller at https:\/\/127\.0\.0\.1:1/);
      assert.equal(status, 3);
    });
  }
});
