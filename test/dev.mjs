import { execFileSync, spawn } from 'node:child_process';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

/**
 * `npm run dev [-- RE]`: compiles on every change and runs the unit tests that load a changed file, all of them once at the
 * start; RE limits them to test files whose path matches. Ctrl-C ends it.
 */
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
process.chdir(root);
const compiler = path.join(root, 'node_modules/typescript/bin/tsc');
execFileSync(process.execPath, [compiler, '-b'], { stdio: 'inherit' });

const { findTestFiles } = await import(new URL('../dist/test/runner/suites.js', import.meta.url).href);
const files = findTestFiles({
  suite: 'unit',
  sourceDirectory: path.join(root, 'test'),
  builtDirectory: path.join(root, 'dist/test'),
  filter: process.argv[2] === undefined ? null : new RegExp(process.argv[2]),
});

const options = { stdio: ['ignore', 'inherit', 'inherit'] };
const children = [
  spawn(process.execPath, [compiler, '-b', '--watch', '--preserveWatchOutput'], options),
  // Node keeps a list of the modules that each test file loaded, and starts those again of which one has changed.
  spawn(process.execPath, ['--test', '--watch', '--test-reporter=spec', ...files], options),
];
for (const child of children) {
  child.once('exit', () => {
    for (const other of children) other.kill();
  });
}
