import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmod, chown, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { labUser } from '../../lab/programs.js';
import { readPrivateFile, writePrivateFile } from '../../../shared/private-file.js';

async function temporaryDirectory(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'culvert-private-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

const moduleUrl = new URL('../../../shared/private-file.js', import.meta.url).href;
/** Writes `text` to `path` in a process of its own and prints the outcome. */
const attempt = (path: string, text: string): string => `
  const { writePrivateFile } = await import(${JSON.stringify(moduleUrl)});
  await writePrivateFile(${JSON.stringify(path)}, ${text}).then(
    () => console.log(JSON.stringify({ code: 'OK' })),
    (error) => console.log(JSON.stringify({ code: error.code, hint: error.hint, cause: error.cause.code })),
  );`;

type Outcome = { readonly code: string; readonly hint?: string; readonly cause?: string };

/** What the module says on a file system that `prepare` (shell) has mounted; the mounts end with the process. */
function onMount(prepare: string, script: string): Outcome {
  const argv = ['--mount', 'sh', '-ec', `${prepare}\nexec "$0" --input-type=module -e "$1"`, process.execPath, script];
  const { status, stdout, stderr } = spawnSync('unshare', argv, { encoding: 'utf8' });
  assert.equal(status, 0, `unshare (util-linux) or mount failed: ${stderr}`);
  return JSON.parse(stdout) as Outcome;
}

test('root gives a file to the owner of its directory, when it is asked to', async () => {
  await using directory = await temporaryDirectory();
  await chown(directory.path, labUser.uid, labUser.gid);
  const [theirs, own] = [join(directory.path, 'theirs'), join(directory.path, 'own')];
  await writePrivateFile(theirs, 'one', { forOwnerOfDirectory: true });
  await writePrivateFile(own, 'two');
  const { uid, gid, mode } = await stat(theirs);
  assert.deepEqual([uid, gid, mode & 0o777], [labUser.uid, labUser.gid, 0o600]);
  assert.equal((await stat(own)).uid, 0);
});

test('a private file is written whole, for its owner only, in directories for the owner only', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'a', 'b', 'secret');
  assert.equal(await readPrivateFile(path), undefined);
  await writePrivateFile(path, 'one');
  await writePrivateFile(path, 'two');
  assert.equal(await readPrivateFile(path), 'two');
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.equal((await stat(join(directory.path, 'a'))).mode & 0o777, 0o700);
  assert.deepEqual(await readdir(join(directory.path, 'a', 'b')), ['secret']);
});

test('a file that others could read is for its owner only after the next write', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'secret');
  await writePrivateFile(path, 'one');
  await chmod(path, 0o644);
  await writePrivateFile(path, 'two');
  assert.equal((await stat(path)).mode & 0o777, 0o600);
});

test('writers of one file at the same time leave one whole text and nothing else', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'secret');
  const texts = Array.from({ length: 20 }, (_, index) => String(index).repeat(50_000));
  await Promise.all(texts.map((text) => writePrivateFile(path, text)));
  assert.ok(texts.includes(await readFile(path, 'utf8')));
  assert.deepEqual(await readdir(directory.path), ['secret']);
});

test('what stands in the way of a write is named with what to do', async () => {
  await using directory = await temporaryDirectory();
  const { path } = directory;
  const file = join(path, 'secret');
  const small = `mount -t tmpfs -o size=8k none ${path}`;
  const full = onMount(small, attempt(file, "'x'.repeat(100_000)"));
  assert.deepEqual([full.code, full.cause], ['STATE_WRITE', 'ENOSPC']);
  assert.match(full.hint ?? '', /free space/);
  const readOnly = onMount(`${small}\nmount -o remount,ro ${path}`, attempt(file, "'x'"));
  assert.deepEqual([readOnly.code, readOnly.cause], ['STATE_WRITE', 'EROFS']);
  assert.match(readOnly.hint ?? '', /mount the file system writable/);
  const nested = onMount(`${small}\nmount -o remount,ro ${path}`, attempt(join(path, 'a', 'b', 'secret'), "'x'"));
  assert.deepEqual([nested.code, nested.cause], ['STATE_WRITE', 'EROFS'], 'not "no such file or directory"');
  const asNobody = `process.setgroups([]); process.setgid(65534); process.setuid(65534);\n${attempt(file, "'x'")}`;
  const denied = onMount(`mount -t tmpfs -o mode=0755 none ${path}`, asNobody);
  assert.deepEqual([denied.code, denied.cause], ['STATE_WRITE', 'EACCES']);
  assert.match(denied.hint ?? '', /run as the owner/);
  assert.equal(onMount('true', attempt(file, "'x'")).code, 'OK');
});

test('a write that cannot be finished keeps the old file and leaves nothing beside it', async () => {
  await using directory = await temporaryDirectory();
  const { path } = directory;
  const file = join(path, 'secret');
  const script = `${attempt(file, "'old'")}
    ${attempt(file, "'x'.repeat(100_000)").replaceAll('const { writePrivateFile } =', 'void')}
    const { readFileSync, readdirSync } = await import('node:fs');
    console.log(JSON.stringify([readFileSync(${JSON.stringify(file)}, 'utf8'), readdirSync(${JSON.stringify(path)})]));`;
  const argv = [
    '--mount',
    'sh',
    '-ec',
    `mount -t tmpfs -o size=8k none ${path}; exec "$0" --input-type=module -e "$1"`,
  ];
  const { stdout, stderr } = spawnSync('unshare', [...argv, process.execPath, script], { encoding: 'utf8' });
  const [, second = '', left = ''] = stdout.split('\n');
  assert.equal((JSON.parse(second) as Outcome).cause, 'ENOSPC', stderr);
  assert.deepEqual(JSON.parse(left), ['old', ['secret']]);
});

test('something that is no file is told apart from nothing', async () => {
  await using directory = await temporaryDirectory();
  await mkdir(join(directory.path, 'secret'));
  await assert.rejects(readPrivateFile(join(directory.path, 'secret')), { code: 'STATE_READ' });
  await assert.rejects(writePrivateFile(join(directory.path, 'secret'), 'x'), { code: 'STATE_WRITE' });
  assert.deepEqual(await readdir(directory.path), ['secret']);
});

test('on a read-only file system a directory that is to be made says so, however deep it is', async () => {
  await using directory = await temporaryDirectory();
  const mount = `mount -t tmpfs -o ro tmpfs ${directory.path}`;
  for (const path of [join(directory.path, 'new'), join(directory.path, 'new', 'deeper')]) {
    const made = onMount(
      mount,
      `
      const { makeStateDirectory } = await import(${JSON.stringify(moduleUrl)});
      await makeStateDirectory(${JSON.stringify(path)}).then(
        () => console.log(JSON.stringify({ code: 'OK' })),
        (error) => console.log(JSON.stringify({ code: error.code, hint: error.hint, cause: error.cause.code })),
      );`,
    );
    assert.deepEqual([made.code, made.cause], ['STATE_WRITE', 'EROFS']);
    assert.match(made.hint ?? '', /mount the file system writable/);
    assert.equal(onMount(mount, attempt(join(path, 'file'), "'x'")).cause, 'EROFS');
  }
});
