import assert from 'node:assert/strict';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { natsServerVersion } from '../../../../controller/nats/nats-binary.js';

suite('the version of a nats-server', () => {
  let directory: string;
  let command: string;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'culvert-nats-binary-'));
    command = join(directory, 'nats-server');
  });
  after(() => rm(directory, { recursive: true }));

  /** A program in place of the one before, which writes down each time that it is started. */
  async function install(answer: string): Promise<void> {
    await writeFile(`${command}.new`, `#!/bin/sh\necho asked >>'${directory}/starts'\n${answer}\n`, { mode: 0o700 });
    await rename(`${command}.new`, command);
  }

  async function starts(): Promise<number> {
    return (await readFile(join(directory, 'starts'), 'utf8')).split('\n').length - 1;
  }

  test('is asked once for a file, and again for the file that replaces it', async () => {
    await install('echo nats-server: v2.9.10');
    const first = { major: 2, minor: 9, patch: 10 };
    assert.deepEqual(await natsServerVersion(command), first);
    assert.deepEqual(await natsServerVersion(command), first);
    assert.equal(await starts(), 1);
    await install('echo nats-server: v2.10.7');
    assert.deepEqual(await natsServerVersion(command), { major: 2, minor: 10, patch: 7 });
    assert.equal(await starts(), 2);
  });

  test('is refused each time when it is too old', async () => {
    await install('echo nats-server: v2.8.4');
    for (let i = 0; i < 2; i++) await assert.rejects(natsServerVersion(command), { code: 'NATS_SERVER_TOO_OLD' });
  });

  test('is asked again after a program that could not be run, which is an error of its own', async () => {
    await install('exit 3');
    await assert.rejects(natsServerVersion(command), { code: 'NATS_SERVER_MISSING' });
    const before = await starts();
    await assert.rejects(natsServerVersion(command), { code: 'NATS_SERVER_MISSING' });
    assert.equal(await starts(), before + 1);
    await rm(command);
    await assert.rejects(natsServerVersion(command), { code: 'NATS_SERVER_MISSING' });
  });
});
