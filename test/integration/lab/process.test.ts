import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, it, test } from 'node:test';
import { runCommand } from '../../lab/command.js';
import { LabProcess } from '../../lab/lab-process.js';
import { patientMs } from '../../lab/patience.js';
import { waitUntil } from '../../lab/wait-until.js';

test('bash runs no start file of the user, as it would with a socket for its input', async () => {
  const home = mkdtempSync(path.join(tmpdir(), 'culvert-test-'));
  try {
    writeFileSync(path.join(home, '.bashrc'), 'echo from the start file\n');
    const { stdout } = await runCommand(['bash', '-c', 'echo done'], { env: { HOME: home, SHLVL: '0' } });
    assert.equal(stdout, 'done\n');
  } finally {
    rmSync(home, { recursive: true });
  }
});

describe('a process of a lab', { timeout: patientMs(30_000) }, () => {
  it('is read line by line, what was written before included', async () => {
    await using shell = await LabProcess.start(['sh', '-c', 'echo port 17; echo more >&2; exec sleep 60']);
    assert.equal((await shell.waitForLine(/port (\d+)/))[1], '17');
    await shell.waitForLine(/more/);
    assert.equal((await shell.waitForLine(/port (\d+)/))[1], '17');
  });

  it('tells a caller who waits in vain that it ended, and what it wrote', async () => {
    await using shell = await LabProcess.start(['sh', '-c', 'echo cannot open it >&2; exit 4']);
    await assert.rejects(shell.waitForLine(/ready/), { code: 'LAB_PROCESS_ENDED', message: /cannot open it/ });
    assert.deepEqual(await shell.exited, { code: 4, signal: null });
    await assert.rejects(shell.waitForLine(/ready/), { code: 'LAB_PROCESS_ENDED' });
  });

  it('tells a caller who waited long enough', async () => {
    await using shell = await LabProcess.start(['sleep', '60']);
    await assert.rejects(shell.waitForLine(/ready/, 20), { code: 'LAB_PROCESS_DEADLINE', message: /within 20 ms/ });
  });

  it('writes its output itself when it is told a file, after what is there', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'culvert-test-'));
    try {
      const outputFile = path.join(directory, 'output.log');
      for (const word of ['one', 'two']) {
        await using shell = await LabProcess.start(['sh', '-c', `echo ${word}; echo ${word}! >&2`], { outputFile });
        await shell.exited;
        assert.deepEqual(shell.lines, []);
      }
      assert.equal(readFileSync(outputFile, 'utf8'), 'one\none!\ntwo\ntwo!\n');
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('is stopped with its children', async () => {
    const shell = await LabProcess.start(['sh', '-c', 'sleep 60 & echo child $!; wait']);
    const [, child = ''] = await shell.waitForLine(/child (\d+)/);
    assert.deepEqual(await shell.stop(), { code: null, signal: 'SIGTERM' });
    // Both got the signal at once; on a busy machine the shell may end first.
    await waitUntil('the child has ended', async () => (isRunning(child) ? undefined : true), 10_000);
  });

  it('is killed when it does not end in time', async () => {
    const shell = await LabProcess.start(['bash', '-c', 'trap "" TERM; echo ready; while :; do sleep 60; done']);
    await shell.waitForLine(/ready/);
    assert.deepEqual(await shell.stop('SIGTERM', 50), { code: null, signal: 'SIGKILL' });
  });

  it('writes its output to a file too', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'culvert-lab-process-'));
    try {
      const logFile = path.join(directory, 'log');
      const shell = await LabProcess.start(['sh', '-c', 'echo to out; echo to err >&2'], { logFile });
      await shell.exited;
      assert.deepEqual(readFileSync(logFile, 'utf8').trim().split('\n').sort(), ['to err', 'to out']);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it('cannot be started when there is no such program', async () => {
    await assert.rejects(LabProcess.start(['no-such-program']), {
      code: 'COMMAND_NOT_STARTED',
      hint: /no-such-program/,
    });
  });
});

describe('a command of a lab', { timeout: patientMs(30_000) }, () => {
  it('ends at its time limit although a daemon of it holds the output open', async () => {
    const directory = mkdtempSync(path.join(tmpdir(), 'culvert-daemon-'));
    const pidFile = path.join(directory, 'pid');
    const readPid = (): number | undefined =>
      existsSync(pidFile) ? Number(readFileSync(pidFile, 'utf8')) || undefined : undefined;
    // It is ended below: no time is long enough for a limit that a busy machine prolongs.
    const daemon = `setsid --fork sh -c 'echo $$ >"$0"; exec sleep 600' "$0"; echo started`;
    const command = runCommand(['sh', '-c', daemon, pidFile], { timeoutMs: 100 });
    try {
      await assert.rejects(command, { code: 'COMMAND_TIMEOUT' });
    } finally {
      process.kill(await waitUntil('the daemon runs', async () => readPid(), 10_000), 'SIGKILL');
      rmSync(directory, { recursive: true });
    }
  });

  it('may leave its input unread', async () => {
    const result = await runCommand(['true'], { input: 'x'.repeat(1_000_000) });
    assert.deepEqual(result, { code: 0, stdout: '', stderr: '' });
  });
});

/** A zombie has ended. */
function isRunning(pid: string): boolean {
  if (!existsSync(`/proc/${pid}/stat`)) return false;
  return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
}
