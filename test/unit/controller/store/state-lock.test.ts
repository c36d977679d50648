import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import type { CulvertError } from '../../../../shared/errors.js';
import { lockFile } from '../../../../shared/native/file-lock.js';
import { isLockedElsewhere, lockState, type StateLock } from '../../../../controller/store/state-lock.js';
import { eventually } from '../../../support/controller/controller-fixture.js';

const lockModule = new URL('../../../../controller/store/state-lock.js', import.meta.url).href;

async function inDirectory(run: (directory: string) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(path.join(tmpdir(), 'culvert-lock-'));
  try {
    await run(directory);
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Files of processes. What the kernel locks stays. */
async function claims(directory: string): Promise<string[]> {
  return (await readdir(directory)).filter((name) => name !== 'controller.lock');
}

/** Many at once; returns the locks that were given. */
async function race(directory: string): Promise<StateLock[]> {
  const attempts = await Promise.allSettled(Array.from({ length: 10 }, () => lockState(directory)));
  const refusals = attempts.filter((attempt) => attempt.status === 'rejected').map(({ reason }) => reason as Error);
  for (const refusal of refusals) {
    assert.equal((refusal as { code?: string }).code, 'STATE_LOCKED');
    assert.match(refusal.message, new RegExp(`process ${process.pid}$`));
  }
  return attempts.filter((attempt) => attempt.status === 'fulfilled').map(({ value }) => value);
}

test('of many that start at the same moment one gets the state directory, and the next after it', async () => {
  await inDirectory(async (directory) => {
    const [lock, ...others] = await race(directory);
    assert.equal(others.length, 0);
    const [name = '', ...rest] = await claims(directory);
    assert.equal(rest.length, 0, 'those that were refused leave nothing');
    assert.equal((await stat(path.join(directory, name))).mode & 0o777, 0o600);
    await lock?.release();
    assert.deepEqual(await claims(directory), []);
    const again = await race(directory);
    assert.equal(again.length, 1);
    await again[0]?.release();
  });
});

test('what a process that is gone, or an earlier one with the same number, has left goes to one of many', async () => {
  await inDirectory(async (directory) => {
    for (const stale of ['999999999.1.00', `${process.pid}.1.00`, 'nonsense']) {
      await writeFile(path.join(directory, `controller.lock.${stale}`), 'held');
    }
    const [lock, ...others] = await race(directory);
    assert.equal(others.length, 0);
    assert.equal((await claims(directory)).length, 1);
    await lock?.release();
  });
});

test('a lock that nothing refers to is held until its process ends, and ends no process', async () => {
  await inDirectory(async (directory) => {
    const script = [
      `const { lockState } = await import(${JSON.stringify(lockModule)});`,
      'await lockState(process.argv[1]);',
      'for (let at = 0; at < 5; at++) { gc(); await new Promise((resolve) => setTimeout(resolve, 10)); }',
      "process.stdout.write('held');",
      'setInterval(() => undefined, 1000);',
    ].join('\n');
    const child = spawn(process.execPath, ['--expose-gc', '--input-type=module', '-e', script, directory], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    assert.match((await isLockedElsewhere(directory)) ?? 'nothing has it', new RegExp(`^${child.pid} on `));
    child.kill('SIGKILL');
    await once(child, 'close');
    assert.equal(await isLockedElsewhere(directory), null);
  });
});

test('a directory that cannot be written says what to do', async () => {
  await inDirectory(async (directory) => {
    const file = path.join(directory, 'file');
    await writeFile(file, '');
    await assert.rejects(lockState(file), { code: 'STATE_WRITE', hint: /state directory/ });
  });
});

test('a controller whose process nothing here can see, as one in another container, keeps the directory by the kernel', async () => {
  await inDirectory(async (directory) => {
    assert.equal(await isLockedElsewhere(path.join(directory, 'missing')), null);
    const lock = await lockFile(path.join(directory, 'controller.lock'), '7 on pod-a');
    assert.ok('release' in lock);
    assert.equal(await isLockedElsewhere(directory), '7 on pod-a');
    await assert.rejects(lockState(directory), { code: 'STATE_LOCKED', message: /in use by process 7 on pod-a$/ });
    assert.deepEqual(await claims(directory), [], 'one that is refused leaves nothing');
    await lock.release();
    assert.equal(await isLockedElsewhere(directory), null);
    const own = await lockState(directory);
    assert.equal(own.unheldBecause, null);
    assert.match((await isLockedElsewhere(directory)) ?? '', new RegExp(`^${process.pid} on `));
    await own.release();
  });
});

/** What `lockState` says of its lock while it is held. */
function watched() {
  const said: string[] = [];
  const watch = {
    onTakenBack: (message: string) => said.push(`taken back: ${message}`),
    onLost: ({ code, message }: CulvertError) => said.push(`${code}: ${message}`),
  };
  return { said, watch };
}

test('a lock whose file is removed is taken back, and no process that starts meanwhile gets the directory', async () => {
  await inDirectory(async (directory) => {
    await writeFile(path.join(directory, 'trust-domain'), 'culvert.local');
    const { said, watch } = watched();
    const lock = await lockState(directory, { watch });
    for (const name of await readdir(directory)) {
      if (name.startsWith('controller.lock')) await rm(path.join(directory, name));
    }
    // It does not see this one's file, as one in another container.
    await assert.rejects(lockState(directory), {
      code: 'STATE_LOCKED',
      message: new RegExp(`in use by process ${process.pid} on `),
    });
    assert.match(said.join('\n'), /^taken back: .*controller\.lock was removed, and is made and locked again/);
    assert.match((await isLockedElsewhere(directory)) ?? 'nothing has it', new RegExp(`^${process.pid} on `));
    await lock.release();
    assert.equal(await isLockedElsewhere(directory), null);
    assert.equal(said.length, 1);
  });
});

test('a lock whose file another process has locked in its place is lost, once', async () => {
  await inDirectory(async (directory) => {
    const { said, watch } = watched();
    const lock = await lockState(directory, { watch });
    await rm(path.join(directory, 'controller.lock'));
    const other = await lockFile(path.join(directory, 'controller.lock'), '7 on pod-a');
    assert.ok('release' in other);
    await eventually('it is noticed', async () => (said.length > 0 ? true : undefined));
    assert.match(said[0] ?? '', /^STATE_LOCKED: .*removed under this controller, and process 7 on pod-a has locked it/);
    await lock.release();
    await other.release();
    assert.equal(said.length, 1);
  });
});

test('the question who has the directory makes no file and changes none', async () => {
  await inDirectory(async (directory) => {
    assert.equal(await isLockedElsewhere(directory), null);
    assert.deepEqual(await readdir(directory), [], 'a directory that was never locked is left as it was');
    const file = path.join(directory, 'controller.lock');
    await writeFile(file, 'of one that is gone\n');
    const { mtimeNs } = await stat(file, { bigint: true });
    assert.equal(await isLockedElsewhere(directory), null);
    assert.equal(await readFile(file, 'utf8'), 'of one that is gone\n');
    assert.equal((await stat(file, { bigint: true })).mtimeNs, mtimeNs);
  });
});

test('one that starts gets the directory also while others ask all the time who has it', async () => {
  await inDirectory(async (directory) => {
    const over = new AbortController();
    let questions = 0;
    const ask = async (): Promise<void> => {
      for (; !over.signal.aborted; questions++) await isLockedElsewhere(directory);
    };
    const asking = Promise.all(Array.from({ length: 4 }, ask));
    try {
      for (let start = 0; start < 50; start++) {
        const lock = await lockState(directory);
        assert.match((await isLockedElsewhere(directory)) ?? 'nothing has it', new RegExp(`^${process.pid} on `));
        await lock.release();
      }
    } finally {
      over.abort();
      await asking;
    }
    assert.ok(questions > 50, `${questions} questions`);
  });
});
