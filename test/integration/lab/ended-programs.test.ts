import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { LabProcess } from '../../lab/lab-process.js';
import { prepareMesh } from '../../lab/mesh.js';
import { patientMs } from '../../lab/patience.js';
import { waitUntil } from '../../lab/wait-until.js';

/** Longer than the test: who waits for it has missed that the program ended. */
const never = 3_600_000;

describe('waiting for a program that has ended', { timeout: patientMs(60_000) }, () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(path.join(tmpdir(), 'culvert-lab-ended-'));
  });
  after(() => rmSync(directory, { recursive: true }));

  it('fails at once, with its exit code and its last lines', async () => {
    const program = await LabProcess.start(['sh', '-c', 'echo the reason; exit 3']);
    const ask = (): void => program.requireRunning();
    await assert.rejects(waitUntil<void>('it answers', ask, never), {
      code: 'LAB_PROCESS_ENDED',
      message: /ended with code 3\. It wrote:\nthe reason$/,
    });
  });

  it('shows the last lines also of a program that writes to a file', async () => {
    const outputFile = path.join(directory, 'output');
    const program = await LabProcess.start(['sh', '-c', 'echo the reason; kill -9 $$'], { outputFile });
    const ask = (): void => program.requireRunning();
    await assert.rejects(waitUntil<void>('it answers', ask, never), { message: /was ended by SIGKILL.*\nthe reason$/ });
  });

  it('shows why the last question failed, when the time is over', async () => {
    const ask = (): never => assert.fail('no answer yet');
    await assert.rejects(waitUntil('it answers', ask, 1), {
      message: 'Not within 1 ms: it answers. At last: no answer yet',
    });
  });

  it('a controller whose nats-server cannot be run says so in its own words', async () => {
    const programs = path.join(directory, 'programs');
    mkdirSync(programs);
    const declared = process.env['PATH'] ?? '';
    for (const name of readdirSync(declared).filter((each) => each !== 'nats-server')) {
      symlinkSync(readlinkSync(path.join(declared, name)), path.join(programs, name));
    }
    // Without one in PATH it would find that of the machine.
    writeFileSync(path.join(programs, 'nats-server'), '#!/bin/sh\nexit 1\n', { mode: 0o755 });
    process.env['PATH'] = programs;
    try {
      await assert.rejects(prepareMesh({ topology: { hosts: [{ name: 'node1' }] } }), {
        code: 'LAB_PROCESS_ENDED',
        message: /NATS_SERVER_MISSING/,
      });
    } finally {
      process.env['PATH'] = declared;
    }
  });
});
