import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { requireSuccess } from '../lab/command.js';
import { LabProcess } from '../lab/lab-process.js';
import { patientMs } from '../lab/patience.js';
import { cloneRoot, installPacked } from '../support/packed-install.js';

const { version } = JSON.parse(readFileSync(path.join(cloneRoot, 'package.json'), 'utf8')) as {
  readonly version: string;
};

describe('the package that npm makes', { timeout: patientMs(180_000) }, () => {
  let directory = '';
  let project = '';
  let files: readonly string[] = [];

  before(async () => {
    directory = mkdtempSync(path.join(tmpdir(), 'culvert-package-'));
    project = path.join(directory, 'project');
    files = await installPacked({ directory, project });
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  function program(name: string, ...argv: readonly string[]): string[] {
    return [path.join(project, 'node_modules/.bin', name), ...argv];
  }

  it('has the programs, the source of the native addon and the units of systemd, and no test', () => {
    for (const file of [
      'dist/programs/culvert-agent.js',
      'dist/programs/culvert.js',
      'agent/native/culvert.c',
      'shared/native/file-lock.c',
      'LICENSE',
    ]) {
      assert.ok(files.includes(file), file);
    }
    assert.ok(files.some((file) => file.startsWith('deploy/systemd/')));
    assert.deepEqual(
      files.filter((file) => /(?:^|\/)test\/|\.test\.|\.ts$|\.map$|tsbuildinfo|\.node$/.test(file)),
      [],
    );
  });

  it('builds the native addon where it is installed', () => {
    assert.ok(existsSync(path.join(project, 'node_modules/culvert/dist/agent/native/culvert.node')));
    assert.ok(existsSync(path.join(project, 'node_modules/culvert/dist/shared/native/file-lock.node')));
  });

  for (const name of ['culvert', 'culvert-agent', 'culvert-controller']) {
    it(`brings ${name}, which says its version and its use`, async () => {
      assert.equal(await requireSuccess(program(name, '--version')), `${version}\n`);
      assert.match(await requireSuccess(program(name, '--help')), new RegExp(`^Usage: ${name} `));
    });
  }

  it('brings an agent that prints the rules which it would load', async () => {
    assert.match(await requireSuccess(program('culvert-agent', 'rules', '--print')), /15001/);
  });

  it('brings a controller that starts, answers its command line and stops', async () => {
    const stateDir = path.join(directory, 'state');
    const listen = ['--listen', '127.0.0.1:0', '--nats-listen', '127.0.0.1:0', '--advertise', '127.0.0.1'];
    await using controller = await LabProcess.start(
      program('culvert-controller', 'run', '--state-dir', stateDir, ...listen),
    );
    await controller.waitForLine(/the controller is serving/, 60_000);
    const context = path.join(stateDir, 'admin.yaml');
    assert.match(await requireSuccess(program('culvert', '--context', context, 'status')), /revision/i);
    assert.deepEqual(await controller.stop(), { code: 0, signal: null });
  });
});
