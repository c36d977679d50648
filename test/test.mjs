import { spawn } from 'node:child_process';
import { constants, setPriority } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { bootstrap, builtUrl, seldomCollecting } from './bootstrap.mjs';
import { findNode, gateVersions, isVersion } from './node-versions.mjs';

/**
 * `npm test [suite…] [-- --filter RE] [-- --node VERSION]`: makes the clone ready, then runs the suites of test/run.ts, with
 * another Node when one is named. Without arguments it is the gate: style, every suite, and all suites that need no mesh on an
 * older Node too.
 */
const runner = fileURLToPath(new URL('../dist/test/run.js', import.meta.url));
const log = (line) => process.stderr.write(`# ${line}\n`);

const { version, rest } = takeVersion(process.argv.slice(2));
try {
  await bootstrap('tests');
  const { DeclaredPath } = await import(builtUrl('test/lab/declared-path.js'));
  DeclaredPath.enter('tests');
  process.exitCode =
    process.argv.length === 2 ? await runGate() : await runSuites(nodeOf(version), ['--worlds', '1', ...rest]);
} catch (error) {
  process.stderr.write(`${error.message}${error.hint === undefined ? '' : ` (${error.hint})`}\n`);
  process.exitCode = 1;
}

async function runGate() {
  const { first, second } = nodesOfGate();
  // Both read the build and change nothing.
  const [code, ...styles] = await Promise.all([
    runSuites(first, ['--worlds', '0.25', '--other-node', second]),
    ...['lint:built', 'format', 'audit:built'].map(checkStyle),
  ]);
  for (const { output } of styles) process.stderr.write(output);
  return code === 0 && styles.every(({ isOk }) => isOk) ? 0 : 1;
}

/** The machine's own Node and the oldest, or the newest where its own is the oldest. The newer, which starts faster, is first. */
function nodesOfGate() {
  const [oldest, newest] = gateVersions;
  const isOwnOldest = process.versions.node.split('.')[0] === oldest.split('.')[0];
  return isOwnOldest
    ? { first: nodeOf(newest), second: process.execPath }
    : { first: process.execPath, second: nodeOf(oldest) };
}

async function checkStyle(script) {
  const pieces = [];
  const env = { ...process.env, ...seldomCollecting };
  const child = spawn('npm', ['run', '--silent', script], { stdio: ['ignore', 'pipe', 'pipe'], env });
  // For what the tests leave idle: the last ones mostly wait.
  if (child.pid !== undefined) setPriority(child.pid, constants.priority.PRIORITY_LOW);
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece) => pieces.push(piece));
  const code = await endOf(child);
  const output = Buffer.concat(pieces).toString('utf8');
  return code === 0
    ? { isOk: true, output }
    : { isOk: false, output: `${output}"npm run ${script}" found what stands above.\n` };
}

/** The exit code of test/run.ts under a Node, which is also the `node` of everything that the tests start. */
function runSuites(node, args) {
  const env = { ...process.env, PATH: `${path.dirname(node)}:${process.env.PATH}` };
  const child = spawn(node, [runner, ...args], { stdio: 'inherit', env });
  // Ctrl-C and a supervisor's SIGTERM: the runner cleans up, then ends.
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  return endOf(child);
}

function endOf(child) {
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve(code ?? 1));
  });
}

function nodeOf(wanted) {
  return wanted === undefined ? process.execPath : findNode(wanted, { log });
}

/** Splits `--node V` or `--node=V` from the arguments of the runner. */
function takeVersion(args) {
  const at = args.findIndex((arg) => arg === '--node' || arg.startsWith('--node='));
  if (at < 0) return { version: undefined, rest: args };
  const [, inline] = args[at].split('=');
  const version = inline ?? args[at + 1] ?? '';
  if (!isVersion(version)) {
    process.stderr.write(`--node takes a version such as 26 or 20.12, not "${version}".\n`);
    process.exit(1);
  }
  return { version, rest: args.filter((_, index) => index !== at && (inline !== undefined || index !== at + 1)) };
}
