import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { requireSuccess } from '../lab/command.js';
import { LabProcess } from '../lab/lab-process.js';
import { patientMs } from '../lab/patience.js';

const root = path.resolve(import.meta.dirname, '../../..');
const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { readonly version: string };

describe('the package that npm makes', { timeout: patientMs(180_000) }, () => {
  let directory = '';
  let project = '';
  let files: readonly string[] = [];

  before(async () => {
    directory = mkdtempSync(path.join(tmpdir(), 'culvert-package-'));
    project = path.join(directory, 'project');
    const packed = await npm(['pack', '--json', '--ignore-scripts', '--pack-destination', directory], root);
    const [{ filename, files: listed }] = JSON.parse(packed) as [{ filename: string; files: { path: string }[] }];
    files = listed.map((file) => file.path);
    copyDependencies();
    await unpack(path.join(directory, filename));
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  /** Without the registry, and with an empty cache. */
  function npm(argv: readonly string[], cwd: string): Promise<string> {
    const env = { npm_config_cache: path.join(directory, 'cache'), npm_config_update_notifier: 'false' };
    return requireSuccess(['npm', ...argv, '--offline', '--no-audit', '--no-fund'], { cwd, env, timeoutMs: 120_000 });
  }

  /** What npm would take from the registry comes from this clone, where `npm ci` has put it: the same, and offline. */
  function copyDependencies(): void {
    mkdirSync(project);
    const lock = JSON.parse(readFileSync(path.join(root, 'package-lock.json'), 'utf8')) as {
      readonly packages: Readonly<Record<string, { readonly dev?: boolean }>>;
    };
    const used = Object.entries(lock.packages).filter(([name, { dev }]) => name !== '' && dev !== true);
    for (const [name] of used) {
      cpSync(path.join(root, name), path.join(project, name), { recursive: true });
    }
    writeFileSync(path.join(project, 'package.json'), JSON.stringify({ dependencies: { culvert: version } }));
  }

  /** `npm install` of a tarball asks the registry for all dependencies, also for those that are there. So in its two steps. */
  async function unpack(tarball: string): Promise<void> {
    const target = path.join(project, 'node_modules/culvert');
    mkdirSync(target);
    await requireSuccess(['tar', '-xzf', tarball, '--strip-components=1', '-C', target]);
    await npm(['rebuild', 'culvert'], project);
  }

  function program(name: string, ...argv: readonly string[]): string[] {
    return [path.join(project, 'node_modules/.bin', name), ...argv];
  }

  it('has the programs, the source of the native addon and the units of systemd, and no test', () => {
    for (const file of [
      'dist/programs/culvert-agent.js',
      'dist/programs/culvert.js',
      'agent/native/culvert.c',
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
