import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { test } from 'node:test';
import { programs } from '../../../lab/programs.js';
import { temporaryDirectory, withDeadline } from '../../../support/controller/controller-fixture.js';

type Ended = { readonly code: number | null; readonly err: string };

/** Runs a program to its end with this standard output; `closed`: a pipe whose reader has gone. */
async function ended(argv: readonly string[], stdout: 'ignore' | 'closed' | '/dev/full'): Promise<Ended> {
  const [program = '', ...args] = argv;
  const fd = stdout === '/dev/full' ? openSync(stdout, 'w') : null;
  const child = spawn(program, args, { stdio: ['ignore', fd ?? (stdout === 'closed' ? 'pipe' : 'ignore'), 'pipe'] });
  if (fd !== null) closeSync(fd);
  if (stdout === 'closed') child.stdout?.destroy();
  let err = '';
  child.stderr?.on('data', (chunk: Buffer) => (err += chunk.toString()));
  const closed = new Promise<Ended>((resolve) => child.once('close', (code) => resolve({ code, err })));
  try {
    return await withDeadline(closed, argv.join(' '));
  } finally {
    child.kill('SIGKILL');
  }
}

const printing: readonly (readonly [name: string, argv: readonly string[]])[] = [
  ['culvert', [...programs.culvert, 'completion', 'bash']],
  ['culvert', [...programs.culvert, '--help']],
  ['culvert-controller', [...programs.controller, 'config']],
  ['culvert-controller', [...programs.controller, '--help']],
  ['culvert-agent', [...programs.agent, 'rules']],
  ['culvert-agent', [...programs.agent, '--version']],
];

for (const [name, argv] of printing) {
  const what = `${name} ${argv.slice(2).join(' ')}`;
  test(`"${what}" says that its output cannot be written to a full disk`, async () => {
    const { code, err } = await ended(argv, '/dev/full');
    assert.equal(code, 1, err);
    assert.match(
      err,
      new RegExp(`^${name}: cannot write the output: ENOSPC[^\\n]*\\(free space on its disk\\) \\[OUTPUT\\]\\n$`),
    );
  });

  test(`"${what}" ends without a word when its reader has gone`, async () => {
    assert.deepEqual(await ended(argv, 'closed'), { code: 0, err: '' });
  });
}

const ownNats = ['--nats', 'tls://127.0.0.1:1', '--listen', '127.0.0.1:0', '--nats-account-seed-file'];
const join = ['join', '--node', 'a', '--controller', 'https://127.0.0.1:1'];

test('a file that a command line names and that cannot be read is named with 64, whatever it is', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = path.join(directory.path, 'state');
  const notText = path.join(directory.path, 'not-text');
  const password = path.join(directory.path, 'password');
  await mkdir(path.join(directory.path, 'folder'));
  await writeFile(notText, Buffer.from([0xff, 0x0a]));
  await writeFile(password, 'password\n');
  const problems = {
    '/nowhere': 'there is no such file',
    [path.join(directory.path, 'folder')]: 'it is a directory',
    '/dev/zero': 'it is larger than',
  };
  const readers: readonly ((file: string) => readonly string[])[] = [
    (file) => [...programs.controller, 'config', '--config', file],
    (file) => [...programs.agent, 'config', '--config', file],
    (file) => [
      ...programs.controller,
      'ca',
      'import',
      '--in',
      file,
      '--password-file',
      password,
      '--state-dir',
      stateDir,
    ],
    (file) => [
      ...programs.controller,
      'ca',
      'import',
      '--in',
      password,
      '--password-file',
      file,
      '--state-dir',
      stateDir,
    ],
    (file) => [...programs.controller, 'run', '--state-dir', stateDir, ...ownNats, file],
    (file) => [...programs.agent, ...join, '--token-file', file, '--state-dir', stateDir],
  ];
  for (const read of readers) {
    for (const [file, problem] of Object.entries(problems)) {
      const argv = read(file);
      const { code, err } = await ended(argv, 'ignore');
      assert.equal(code, 64, `${argv.join(' ')}: ${err}`);
      assert.match(
        err,
        new RegExp(`^culvert-[a-z]+: [^\\n]*${file}: ${problem}[^\\n]*\\([^\\n]+\\) \\[[A-Z_]+\\]\\n$`),
      );
    }
  }
  const { code, err } = await ended([...programs.agent, 'config', '--config', notText], 'ignore');
  assert.deepEqual([code, /it is not UTF-8 text/.test(err)], [64, true], err);
});

test('a state directory where the kernel makes none ends both daemons at once', async () => {
  for (const argv of [
    [...programs.controller, 'run', '--state-dir', '/proc/culvert/state'],
    [...programs.controller, 'keys', 'change', '--plain', '--state-dir', '/proc/culvert/state'],
    [...programs.agent, ...join, '--token', 'x', '--state-dir', '/proc/culvert/state'],
  ]) {
    const { code, err } = await ended(argv, 'ignore');
    assert.equal(code, 1, err);
    assert.match(
      err,
      /^culvert-[a-z]+: cannot write \/proc\/culvert[^\n]*\(check the state directory[^\n]*\) \[STATE_WRITE\]\n$/,
    );
  }
});

test('a file in the place of a state directory, or above it, is named', async () => {
  await using directory = await temporaryDirectory();
  const file = path.join(directory.path, 'file');
  const link = path.join(directory.path, 'link');
  await writeFile(file, 'not a directory\n');
  await symlink(path.join(directory.path, 'nothing'), link);
  const places = { [file]: `${file} is no directory`, [path.join(file, 'state')]: `${file} is no directory` };
  const commands: readonly ((stateDir: string) => readonly string[])[] = [
    (stateDir) => [...programs.controller, 'run', '--state-dir', stateDir],
    (stateDir) => [...programs.controller, 'ca', 'rotate', 'prepare', '--state-dir', stateDir],
    (stateDir) => [...programs.controller, 'keys', 'change', '--plain', '--state-dir', stateDir],
    (stateDir) => [...programs.agent, ...join, '--token', 'x', '--state-dir', stateDir],
  ];
  for (const command of commands) {
    for (const [stateDir, problem] of Object.entries(places)) {
      const argv = command(stateDir);
      const { code, err } = await ended(argv, 'ignore');
      assert.equal(code, 1, `${argv.join(' ')}: ${err}`);
      assert.match(
        err,
        new RegExp(
          `^culvert-[a-z]+: cannot (?:write|read) ${file}[^\\n]*: ${problem} \\(name another [^\\n]+--state-dir`,
        ),
      );
    }
  }
  const dangling = await ended([...programs.controller, 'run', '--state-dir', link], 'ignore');
  assert.match(dangling.err, new RegExp(`: ${link} is a link to no directory \\(name another `));
});
