import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { requireSuccess, runCommand } from '../../lab/command.js';
import { createLab } from '../../lab/lab.js';
import { LabProcess } from '../../lab/lab-process.js';
import type { LeakScope } from '../../lab/leak-check.js';
import { findLeaks, removeLeaks, takeInventory } from '../../lab/leak-check.js';
import { patientMs } from '../../lab/patience.js';
import { waitUntil } from '../../lab/wait-until.js';
import type { SuiteName } from '../../runner/suites.js';
import { groupFiles, type FileGroup } from '../../runner/file-groups.js';
import { lanesOf, runLane } from '../../runner/lanes.js';
import type { SuiteResult } from '../../runner/run-suite.js';

const orderOfHooks = 'before a,each a,one a,end a,after a,before b,each b,one b,end b,each b';
const suiteModule = new URL('../../runner/run-suite.js', import.meta.url).href;

describe('the test runner', { timeout: patientMs(60_000) }, () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'culvert-lab-runner-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  const outcomes: readonly [what: string, code: string, passed: number, failures: RegExp | null][] = [
    ['passes a file whose tests pass', "test('one', () => {}); test('two', () => {});", 2, null],
    ['fails for a test that fails', "test('one', () => { throw new Error('no'); });", 0, /^f\.test\.mjs: one: no$/],
    ['fails for a test that is skipped', "test('one', { skip: 'not here' }, () => {});", 0, /skipped: one$/],
    ['fails for a file without a test', '', 0, /the file has no test$/],
    ['fails for a file that cannot be loaded', "throw new Error('broken');", 0, /failed outside its tests/],
  ];
  for (const [what, code, passed, failures] of outcomes) {
    it(what, async () => {
      const file = path.join(directory, 'f.test.mjs');
      writeFileSync(file, `import test from 'node:test';\n${code}\n`);
      const result = await runInNewProcess(file);
      assert.equal(result.passed, passed);
      assert.equal(result.failures.length, failures === null ? 0 : 1, result.failures.join());
      if (failures !== null) assert.match(result.failures[0] ?? '', failures);
    });
  }

  it('counts the CPU time of each file with that of the programs it starts', async () => {
    const burn = 'while (process.cpuUsage().user < 400_000);';
    const codes = { a: '', b: `execFileSync(process.execPath, ['-e', '${burn}']);` };
    const files = Object.entries(codes).map(([name, code]) => {
      const file = path.join(directory, `${name}.test.mjs`);
      const start = "import test from 'node:test';\nimport { execFileSync } from 'node:child_process';\n";
      writeFileSync(file, `${start}test('one', () => { ${code} });\n`);
      return file;
    });
    const { cpuMs, fileTimes } = await runInNewProcess(...files);
    assert.ok(cpuMs >= 400, `${cpuMs} ms`);
    // Node 20.12 does not say when a file has ended.
    if (fileTimes.length === 0) return;
    assert.deepEqual(
      fileTimes.map(({ file }) => path.basename(file)),
      ['b.test.mjs', 'a.test.mjs'],
    );
    assert.ok((fileTimes[0]?.cpuMs ?? 0) >= 400, JSON.stringify(fileTimes));
  });

  it('prints the lines in which large values differ, not the values', async () => {
    const file = path.join(directory, 'f.test.mjs');
    const code = `
      import test from 'node:test';
      import assert from 'node:assert/strict';
      const state = (last) => ({ nodes: Array.from({ length: 2000 }, (_, at) => 'node-' + at), last });
      test('one', () => assert.deepEqual(state('a'), state('b')));`;
    writeFileSync(file, code);
    const { stdout, failures } = await runInNewProcess(file);
    assert.equal(failures.length, 1);
    assert.match(
      failures[0] ?? '',
      /^f\.test\.mjs: one: Expected values to be strictly deep-equal: .*last: 'a'.{1,400}$/,
    );
    assert.match(stdout, /^ +\+ +last: 'a'/m);
    assert.match(stdout, /^ +- +last: 'b'/m);
    assert.match(stdout, /at .*f\.test\.mjs:5:/);
    assert.ok(!stdout.includes('node-1000'), stdout);
    assert.ok(stdout.length < 4000, `${stdout.length} characters`);
  });

  const groupFailures: readonly [what: string, code: string, passed: number, failures: readonly RegExp[]][] = [
    [
      'a hook before all',
      "before(() => { throw new Error('no'); });",
      1,
      [/a hook of "a\.test\.mjs" failed$|^a\.test\.mjs: one: no$/],
    ],
    ['a hook after all', "after(() => { throw new Error('no'); });", 2, [/a hook of "a\.test\.mjs" failed$/]],
    [
      'loading',
      "throw new Error('broken');",
      1,
      [/a\.test\.mjs is loaded: broken$/, /^a\.test\.mjs: the file has no test$/],
    ],
  ];
  for (const [what, code, passed, failures] of groupFailures) {
    it(`counts a failure of ${what} in a process of several files, and runs the other files`, async () => {
      const files = ['a', 'b'].map((name) => path.join(directory, `${name}.test.mjs`));
      const start = "import test, { before, after } from 'node:test';\n";
      for (const file of files) {
        writeFileSync(file, `${start}${file.endsWith('a.test.mjs') ? code : ''}\ntest('one', () => {});\n`);
      }
      const group = groupOf(files);
      const result = await runInNewProcess(...group);
      assert.equal(result.passed, passed);
      for (const failure of failures) {
        assert.ok(
          result.failures.some((text) => failure.test(text)),
          result.failures.join('\n'),
        );
      }
    });
  }

  it('runs the hooks of a file around its own tests, whatever shares its process', async () => {
    const code = (name: string) => `
      import assert from 'node:assert/strict';
      import test, { after, afterEach, before, beforeEach } from 'node:test';
      const calls = (globalThis.calls ??= []);
      before(() => calls.push('before ${name}'));
      beforeEach(() => calls.push('each ${name}'));
      afterEach(() => calls.push('end ${name}'));
      after(() => calls.push('after ${name}'));
      test('one', () => calls.push('one ${name}'));
      if ('${name}' === 'b') test('order', () => assert.equal(calls.join(), ${JSON.stringify(orderOfHooks)}));`;
    const files = ['a', 'b'].map((name) => path.join(directory, `${name}.test.mjs`));
    for (const file of files) writeFileSync(file, code(path.basename(file)[0] ?? ''));
    const { passed, failures } = await runInNewProcess(...groupOf(files));
    assert.deepEqual(failures, []);
    assert.equal(passed, 3);
  });

  function groupOf(files: readonly string[]): FileGroup[] {
    const most = { filesPerProcess: 2, secondsPerProcess: Infinity };
    return groupFiles({ ...most, builtDirectory: directory, entryDirectory: directory, files });
  }

  it('runs integration and the other suites side by side, and those without a mesh again with another Node', () => {
    const lanes = (suites: readonly SuiteName[], otherNode?: string) =>
      lanesOf({ suites, node: 'own', otherNode, worlds: 0.5 }).map(
        ({ node, suites: of, worlds, isSecondNode = false }) =>
          `${node} ${worlds} ${of.join()}${isSecondNode ? ' without what ends alike' : ''}`,
      );
    assert.deepEqual(lanes(['contract', 'unit']), ['own 0.5 contract,unit']);
    assert.deepEqual(lanes(['e2e', 'systemd']), ['own 0.5 e2e,systemd']);
    assert.deepEqual(lanes(['integration', 'unit']), ['own 0.5 unit', 'own 0.5 integration']);
    const all = [
      'own 0.5 e2e,e2e-one-worker,contract,unit',
      'own 0.5 integration',
      'other 0.2 integration,contract,unit without what ends alike',
    ];
    assert.deepEqual(lanes(['integration', 'e2e', 'e2e-one-worker', 'contract', 'unit'], 'other'), all);
  });

  it('runs a lane in a process with a Node of its own, and shows what it printed and how it ended', async () => {
    const run = (node: string, filter: string) =>
      runLane({
        lane: { node, suites: ['unit'], worlds: 0.2 },
        args: ['--filter', filter],
        signal: new AbortController().signal,
      });
    const { output, results, problems } = await run(process.execPath, 'runner/short-failure');
    assert.deepEqual(problems, [], output);
    assert.match(output, /unit +Node [\d.]+: 1 files, \d+ passed, 0 failed/);
    assert.deepEqual(
      results.map(({ suite, node, failures }) => ({ suite, node, failures })),
      [{ suite: 'unit', node: process.versions.node, failures: [] }],
    );
    const empty = await run(process.execPath, 'no such file');
    assert.match(empty.problems.join(), /no test file matches/);
    const missing = await run(path.join(directory, 'node'), 'runner/short-failure');
    assert.match(missing.problems.join(), /the lane of unit cannot be started with .*ENOENT/);
    const unknown = await runLane({
      lane: { node: process.execPath, suites: ['unit'], worlds: 0.2 },
      args: ['--no-such-option'],
      signal: new AbortController().signal,
    });
    assert.match(unknown.problems.join(), /the lane of unit ended with 1 and no report/);
  });

  it('cleans up when it is interrupted, also a second time meanwhile', async () => {
    const tmp = path.join(directory, 'interrupted');
    mkdirSync(tmp);
    const { CULVERT_TEST_RUN: _run, NODE_TEST_CONTEXT: _context, ...env } = process.env;
    const runner = path.resolve(import.meta.dirname, '../../run.js');
    const child = spawn(process.execPath, [runner, 'unit', '--filter', 'shared/timeout-signal'], {
      env: { ...env, TMPDIR: tmp },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const ended = once(child, 'close');
    let output = '';
    child.stdout.on('data', (text) => (output += String(text)));
    await waitUntil('its folder', () =>
      readdirSync(tmp).some((name) => name.startsWith('culvert-test-')) ? true : undefined,
    );
    child.kill('SIGINT');
    await new Promise((resolve) => setTimeout(resolve, 10));
    child.kill('SIGINT');
    const [code, signal] = (await ended) as [number | null, string | null];
    assert.deepEqual([code, signal, readdirSync(tmp)], [1, null, []], output);
    assert.match(output, /the run was interrupted/);
  });

  it('notices processes, labs, mounts and files that a test leaves, and removes them', async () => {
    const tempDir = path.join(directory, 'tmp');
    mkdirSync(tempDir);
    const testRun = `leak${process.pid}`;
    const scope: LeakScope = { testRun, tempDir, isStrict: false, hasLabs: true };
    const before = await takeInventory(scope);
    const env = { CULVERT_TEST_RUN: testRun };
    await using daemon = await LabProcess.start(['sleep', '61'], { env });
    writeFileSync(path.join(tempDir, 'forgotten'), '');
    const lab = await withEnvironment(env, () => createLab({ hosts: [{ name: 'node1' }] }, { isHeld: true }));
    const [own, mounted] = [path.join(directory, 'of-the-machine'), path.join(tempDir, 'mounted')];
    for (const folder of [own, mounted]) mkdirSync(folder);
    writeFileSync(path.join(own, 'dear'), '');
    for (let times = 0; times < 2; times++) await requireSuccess(['mount', '--bind', own, mounted]);
    const leaks = await findLeaks(before, scope);
    assert.deepEqual(leaks.sort(), [
      `directory /etc/netns/${lab.prefix}-node1`,
      `lab ${lab.prefix}`,
      `mount ${mounted}`,
      `namespace ${lab.prefix}-fabric`,
      `namespace ${lab.prefix}-node1`,
      `process ${daemon.pid}: sleep 61`,
      `temporary file ${path.join(tempDir, 'forgotten')}`,
      `temporary file ${mounted}`,
    ]);
    removeLeaks(scope);
    assert.ok(existsSync(path.join(own, 'dear')));
    await daemon.exited;
    assert.deepEqual(await findLeaks(before, scope), []);
  });
});

type Outcome = Pick<SuiteResult, 'passed' | 'failures' | 'cpuMs' | 'fileTimes'> & { readonly stdout: string };

/** In a process of its own, because Node runs no test files from within a test file. */
async function runInNewProcess(...groups: readonly (FileGroup | string)[]): Promise<Outcome> {
  const own = groups.map((group) => (typeof group === 'string' ? { entry: group, files: [group] } : group));
  const program = `
    import { runSuite } from ${JSON.stringify(suiteModule)};
    const result = await runSuite({ suite: 'unit', groups: ${JSON.stringify(own)}, signal: new AbortController().signal });
    console.error('result ' + JSON.stringify(result));`;
  const runner = path.join(path.dirname(own[0]?.entry ?? ''), 'runner.mjs');
  writeFileSync(runner, program);
  const { stdout, stderr } = await runCommand(['env', '-u', 'NODE_TEST_CONTEXT', process.execPath, runner]);
  const line = stderr.split('\n').find((text) => text.startsWith('result '));
  assert.ok(line !== undefined, stderr);
  return { ...(JSON.parse(line.slice('result '.length)) as SuiteResult), stdout };
}

async function withEnvironment<T>(env: Record<string, string>, step: () => Promise<T>): Promise<T> {
  const before = { ...process.env };
  Object.assign(process.env, env);
  try {
    return await step();
  } finally {
    for (const name of Object.keys(env)) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  }
}
