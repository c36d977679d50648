import assert from 'node:assert/strict';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { runCli } from '../../../../controller/cli/program.js';
import { writeSecret, type MadeSecret } from '../../../../controller/cli/view/secret-output.js';
import { startedController, temporaryDirectory } from '../../../support/controller/controller-fixture.js';
import { smallDisk } from '../../../support/controller/small-disk.js';

function terminal() {
  const lines: string[] = [];
  const print = (text: string): void => void lines.push(text);
  const io = { print, printError: print, readStdin: () => Promise.resolve(Buffer.alloc(0)), env: {}, nowMs: Date.now };
  return { lines, io };
}

test('on a full disk --out makes no credential and leaves no file, and says why', async () => {
  await using directory = await temporaryDirectory();
  await using controller = await startedController(directory.path);
  void controller;
  await using disk = await smallDisk('1m');
  await disk.fill();
  const before = await readdir(disk.path);
  const run = async (...words: string[]) => {
    const { lines, io } = terminal();
    const code = await runCli([...words, '--context', join(directory.path, 'admin.yaml')], io);
    return { code, text: lines.join('\n') };
  };
  for (const words of [
    ['user', 'create', 'ci'],
    ['token', 'create', '--node', 'host-a'],
  ]) {
    const { code, text } = await run(...words, '--out', join(disk.path, 'secret'));
    assert.equal(code, 1, text);
    assert.match(text, /cannot write .*ENOSPC.*no credential was made/);
    assert.match(text, /free space there/);
  }
  assert.deepEqual(await readdir(disk.path), before);
  assert.match((await run('user', 'list')).text, /no users/);
  assert.match((await run('token', 'list')).text, /no join token/);
});

test('a credential that cannot be written after it was made is revoked, and if it cannot be, the command to do so is named', async () => {
  await using disk = await smallDisk('256k');
  const path = join(disk.path, 'secret');
  const secret = (revoke: () => Promise<unknown>) => async (): Promise<MadeSecret<null>> => ({
    text: 'x'.repeat(1024 * 1024),
    result: null,
    revoke,
    revokeCommand: 'culvert user delete ci',
  });
  let revoked = 0;
  const { io } = terminal();
  await assert.rejects(
    writeSecret(
      io,
      path,
      secret(async () => void (revoked += 1)),
    ),
    { code: 'OUTPUT_WRITE', message: /ENOSPC.*is revoked/ },
  );
  assert.equal(revoked, 1);
  const unreachable = secret(() => Promise.reject(new Error('the controller is away')));
  await assert.rejects(writeSecret(io, path, unreachable), {
    code: 'OUTPUT_WRITE',
    message: /still valid: the controller is away/,
    hint: 'revoke it: culvert user delete ci',
  });
  assert.deepEqual(await readdir(disk.path), []);
});

test('the file has the secret and nothing of what was reserved for it', async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, 'secret');
  const { lines, io } = terminal();
  const made = { text: 'key: é', result: 7, revoke: () => Promise.reject(new Error('no')), revokeCommand: '' };
  assert.equal(await writeSecret(io, path, async () => made), 7);
  assert.deepEqual([await readFile(path, 'utf8'), (await stat(path)).mode & 0o777], ['key: é\n', 0o600]);
  assert.match(lines.join('\n'), /readable by its owner only/);
});
