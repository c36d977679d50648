import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { test } from 'node:test';
import { type CaptureProgram, CommandRunner } from '../../../../agent/capture/firewall/command-runner.js';
import { CulvertError } from '../../../../shared/errors.js';

test('a command that cannot be started for want of file descriptors is an error, and not the end of the process', async () => {
  const runner = new CommandRunner({ maxParallel: 1 });
  const prlimit = (...args: string[]): string =>
    execFileSync('prlimit', ['--pid', String(process.pid), ...args], { encoding: 'utf8' });
  const before = prlimit('--nofile', '--output', 'SOFT', '--noheadings').trim();
  prlimit('--nofile=128:');
  const taken: number[] = [];
  try {
    for (;;) taken.push(openSync('/dev/null', 'r'));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'EMFILE');
  }
  try {
    await assert.rejects(
      runner.run({ argv: ['cat', '/dev/null'], netnsFd: null }),
      (error) => error instanceof CulvertError && error.code === 'CAPTURE_TOOL' && error.message.includes('EMFILE'),
    );
  } finally {
    for (const fd of taken) closeSync(fd);
    prlimit(`--nofile=${before}:`);
  }
  assert.equal(
    (await runner.run({ argv: ['cat', '/dev/null'], netnsFd: null })).code,
    0,
    'the runner is free for the next one',
  );
});

test('a program that is missing is named with the package that brings it', async () => {
  const runner = new CommandRunner({ maxParallel: 1 });
  await assert.rejects(
    runner.run({ argv: ['culvert-no-such-program' as CaptureProgram], netnsFd: null }),
    (error) =>
      error instanceof CulvertError && error.code === 'CAPTURE_TOOL' && error.hint?.startsWith('apt-get') === true,
  );
});
