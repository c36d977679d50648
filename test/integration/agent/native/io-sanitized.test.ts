import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { buildSanitizedAddon } from '../../../support/program/sanitized-addon.js';

/** Of the floor itself, and of what calls it. */
const files = [
  ...['handles', 'sockets', 'tls', 'environment'].map((name) => `native/io/${name}`),
  ...['io-socket', 'io-listener', 'tls-session'].map((name) => `dataplane/io/${name}`),
];

test("the contract of the engine's floor holds under AddressSanitizer and UndefinedBehaviorSanitizer", () => {
  using addon = buildSanitizedAddon();
  const { NODE_TEST_CONTEXT: _, ...environment } = addon.environment;
  // The one that hides a symbol has a library of its own in front.
  for (const name of files) {
    const file = path.join(import.meta.dirname, '..', `${name}.test.js`);
    const options = ['--test-reporter=tap', '--test-name-pattern=/^(?!a Node that hides)/'];
    const { status, stdout, stderr } = spawnSync(process.execPath, [...addon.nodeArguments, ...options, file], {
      env: environment,
      encoding: 'utf8',
      timeout: 240_000,
    });
    assert.equal(status, 0, `${name}: ${fromFirstFailure(stdout)}${stderr.slice(-4000)}`);
    assert.doesNotMatch(stderr, /Sanitizer|runtime error/);
    assert.match(stdout, /^# fail 0$/m);
  }
});

/** Of what a file of tests said: a summary has room for little, and what passed tells nothing. */
function fromFirstFailure(tap: string): string {
  const at = tap.search(/^not ok/m);
  return at < 0 ? `no test failed: ${tap.slice(-2000)}` : tap.slice(at, at + 4000);
}
