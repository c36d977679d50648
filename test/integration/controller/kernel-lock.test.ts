import assert from 'node:assert/strict';
import { execFile, execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import type { StatusAnswer } from '../../../controller/api/api-types.js';
import { lockFile } from '../../../shared/native/file-lock.js';
import { programs } from '../../lab/programs.js';
import { callApi, eventually, temporaryDirectory, withDeadline } from '../../support/controller/controller-fixture.js';
import { ready, spawnedController } from '../../support/controller/controller-process.js';

/** A controller that cannot lock its state directory in the kernel: it has no addon, or the file system has no locks. */
const run = promisify(execFile);
const [, program] = programs.controller;
const option = '--unsafe-without-kernel-lock';

/** What a file system without locks answers, given to a program in place of its own. */
const withoutLocks = `
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>
enum { ask_for_lock = 36, take_lock = 37 };
int fcntl64(int fd, int command, void *argument) {
  if (command != ask_for_lock && command != take_lock) return syscall(SYS_fcntl, fd, command, argument);
  errno = ENOLCK;
  return -1;
}
int fcntl(int fd, int command, void *argument) { return fcntl64(fd, command, argument); }
`;

let scratch: string;
/** Each way to be without locks: the program to start, with which environment, and what it says of the cause. */
let ways: readonly {
  readonly name: string;
  readonly program: string;
  readonly env: NodeJS.ProcessEnv;
  readonly says: RegExp;
}[];

before(() => {
  scratch = mkdtempSync(path.join(tmpdir(), 'culvert-kernel-lock-'));
  const built = path.dirname(path.dirname(program));
  const copy = path.join(scratch, 'without-addon/dist/programs');
  mkdirSync(path.dirname(copy), { recursive: true });
  cpSync(path.dirname(program), copy, { recursive: true });
  cpSync(path.join(built, '../package.json'), path.join(scratch, 'without-addon/package.json'));
  const library = path.join(scratch, 'without-locks.so');
  writeFileSync(path.join(scratch, 'without-locks.c'), withoutLocks);
  execFileSync('gcc', ['-shared', '-fPIC', '-o', library, path.join(scratch, 'without-locks.c')]);
  ways = [
    {
      name: 'without the addon',
      program: path.join(copy, path.basename(program)),
      env: {},
      says: /the addon that locks files cannot be loaded.*gcc libc6-dev/,
    },
    {
      name: 'on a file system without locks',
      program,
      env: { LD_PRELOAD: library },
      says: /the file system cannot lock a file: ENOLCK.*NFS 4/,
    },
  ];
});
after(() => rmSync(scratch, { recursive: true }));

test('without a lock of the kernel a controller does not start, makes no CA, and says what to do', async () => {
  for (const { name, says, ...how } of ways) {
    await using directory = await temporaryDirectory();
    const stateDir = path.join(directory.path, 'state');
    await using controller = await spawnedController(stateDir, [], how);
    assert.deepEqual(await withDeadline(controller.exited, `it ends ${name}`), [1, null], controller.output());
    assert.match(controller.output(), says, name);
    assert.match(controller.output(), /cannot be locked in the kernel.*--unsafe-without-kernel-lock/, name);
    assert.deepEqual(
      readdirSync(stateDir).filter((file) => file !== 'controller.lock'),
      [],
      name,
    );
  }
});

test('with the option for it, log, status and culvert check warn as long as it runs', async () => {
  for (const { name, says, ...how } of ways) {
    await using directory = await temporaryDirectory();
    const { path: stateDir } = directory;
    await using controller = await spawnedController(stateDir, [option], how);
    const access = await controller.access();
    await ready(access);
    const logged = controller
      .output()
      .split('\n')
      .filter((line) => line.includes('without a lock of the kernel'));
    assert.equal(logged.length, 1, name);
    assert.match(logged[0] ?? '', /"level":(?:40|"warn")/);
    const { warnings } = (await callApi(access, 'GET', '/v1/status')).body as StatusAnswer;
    assert.match(warnings.map(({ message, hint }) => `${message} (${hint})`).join('\n'), says, name);
    const argv = [programs.culvert[1], 'check', '--context', path.join(stateDir, 'admin.yaml')];
    const shown = await run(process.execPath, argv).catch((error: unknown) => error as { readonly stdout: string });
    assert.match(shown.stdout.replace(/\s+/g, ' '), /without a lock of the kernel.*start it without that option/, name);

    await using second = await spawnedController(stateDir, [option], how);
    assert.deepEqual(await withDeadline(second.exited, 'the second one ends'), [1, null]);
    assert.match(
      second.output(),
      new RegExp(`in use by process ${controller.child.pid}`),
      'one that is seen is refused',
    );
  }
});

test('a controller that has its lock warns of nothing, whatever is allowed', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await spawnedController(directory.path, [option]);
  const access = await controller.access();
  const { warnings } = (await callApi(access, 'GET', '/v1/status')).body as StatusAnswer;
  assert.deepEqual(warnings, []);
  assert.doesNotMatch(controller.output(), /without a lock of the kernel/);
});

test('commands that change the CA are refused without the lock, and done with the option', async () => {
  await using directory = await temporaryDirectory();
  const { path: stateDir } = directory;
  await using controller = await spawnedController(stateDir);
  await controller.access();
  controller.child.kill('SIGTERM');
  await controller.exited;
  for (const [at, { name, says, program: other, env }] of ways.entries()) {
    const step = ['prepare', 'activate'][at] ?? '';
    const argv = [other, 'ca', 'rotate', step, '--force', '--state-dir', stateDir];
    const ask = async (...more: readonly string[]): Promise<{ readonly stdout: string; readonly stderr: string }> =>
      run(process.execPath, [...argv, ...more], { env: { ...process.env, ...env } });
    const refused = await ask().then(
      () => 'done',
      (error: unknown) => (error as { readonly stderr: string }).stderr,
    );
    assert.match(refused, says, name);
    assert.match((await ask(option)).stdout, /\S/, name);
  }
});

test('with a lease the option is refused: one that was stopped in the middle is known by its lock alone', async () => {
  await using directory = await temporaryDirectory();
  const stateDir = path.join(directory.path, 'state');
  const lease = ['--kubernetes-api', 'https://127.0.0.1:1', '--kubernetes-lease', 'culvert-controller'];
  await using controller = await spawnedController(stateDir, [option, ...lease]);
  const [code] = await withDeadline(controller.exited, 'it ends');
  assert.notEqual(code, 0);
  assert.match(controller.output(), /--unsafe-without-kernel-lock and --kubernetes-lease exclude each other/);
  assert.ok(!existsSync(stateDir));
});

/** Also the file that says which process it is: as a person who takes all of it for left behind. */
function removeLocks(stateDir: string): void {
  for (const name of readdirSync(stateDir)) {
    if (name.startsWith('controller.lock')) rmSync(path.join(stateDir, name));
  }
}

test('a lock that is removed by hand under a controller lets no second one in, and the first goes on', async () => {
  await using directory = await temporaryDirectory();
  const { path: stateDir } = directory;
  const container = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];
  await using first = await spawnedController(stateDir, [], { within: container });
  await ready(await first.access());
  removeLocks(stateDir);
  await using second = await spawnedController(stateDir, [], { within: container });
  const [code] = await withDeadline(second.exited, 'the second one ends');
  assert.equal(code, 1, second.output());
  assert.match(second.output(), /the state directory is in use by process 1 on .*\[STATE_LOCKED\]/);
  await ready(await first.access());
  assert.match(first.output(), /controller\.lock was removed, and is made and locked again/);
});

test('a controller whose lock another process has taken after it was removed ends at once', async () => {
  await using directory = await temporaryDirectory();
  const { path: stateDir } = directory;
  await using controller = await spawnedController(stateDir);
  await ready(await controller.access());
  // The controller, which looks every second, may be the first to make it again.
  const takes = async () => {
    removeLocks(stateDir);
    const taken = await lockFile(path.join(stateDir, 'controller.lock'), '7 on pod-a');
    return 'release' in taken ? taken : undefined;
  };
  const other = await eventually('another process has taken the lock', takes);
  const [code] = await withDeadline(controller.exited, 'it ends');
  assert.equal(code, 1, controller.output());
  assert.match(controller.output(), /process 7 on pod-a has locked it since.*\[?STATE_LOCKED/s);
  await other.release();
});

test('controllers in two containers, of which neither sees the processes of the other, are never both in one state', async () => {
  await using directory = await temporaryDirectory();
  const { path: stateDir } = directory;
  const container = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'];
  await using first = await spawnedController(stateDir, [], { within: container });
  await ready(await first.access());
  for (const within of [container, []]) {
    await using second = await spawnedController(stateDir, [], { within });
    const [code] = await withDeadline(second.exited, 'the second one ends');
    assert.equal(code, 1, second.output());
    assert.match(second.output(), /the state directory is in use by process 1 on .*\[STATE_LOCKED\]/);
  }
  await ready(await first.access());
});
