import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { createRootCa } from '../../../controller/ca/x509/certificate-authority.js';
import { requireSuccess, runCommand } from '../../lab/command.js';

const root = path.resolve(import.meta.dirname, '../../../..');
const names = ['culvert', 'culvert-agent', 'culvert-controller'];

/** A clone with the modules of this build, without programs and without esbuild. */
function cloneIn(directory: string): void {
  const filter = (from: string): boolean => !/\.(?:map|d\.ts)$/.test(from);
  for (const each of ['deploy/bundle.mjs', 'package.json', 'dist/agent', 'dist/controller', 'dist/shared']) {
    cpSync(path.join(root, each), path.join(directory, each), { recursive: true, filter });
  }
  mkdirSync(path.join(directory, 'node_modules'));
  for (const name of readdirSync(path.join(root, 'node_modules'))) {
    if (!name.includes('esbuild')) addPackage(directory, name);
  }
}

function addPackage(directory: string, name: string): void {
  symlinkSync(path.join(root, 'node_modules', name), path.join(directory, 'node_modules', name));
}

describe('the build of the programs', { timeout: 180_000 }, () => {
  let clone = '';
  before(() => cloneIn((clone = mkdtempSync(path.join(tmpdir(), 'culvert-bundle-')))));
  after(() => rmSync(clone, { recursive: true }));

  async function answerTheirVersion(): Promise<void> {
    const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')) as { version: string };
    for (const name of names) {
      const program = path.join(clone, `dist/programs/${name}.js`);
      assert.equal(await requireSuccess([process.execPath, program, '--version']), `${version}\n`, name);
    }
  }

  it('makes programs that load the modules where esbuild is missing, and says so', async () => {
    const { code, stderr } = await runCommand([process.execPath, 'deploy/bundle.mjs'], { cwd: clone });
    assert.deepEqual([code, stderr.startsWith('esbuild is not installed')], [0, true], stderr);
    await answerTheirVersion();
  });

  it('makes programs that load no module, and leaves nothing of an earlier build', async () => {
    addPackage(clone, 'esbuild');
    assert.equal(await requireSuccess([process.execPath, 'deploy/bundle.mjs'], { cwd: clone }), '');
    await answerTheirVersion();
    const programs = path.join(clone, 'dist/programs');
    const files = readdirSync(programs, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.js'));
    for (const name of [...names, 'data-plane-worker', 'copying-thread', 'document-reading-thread'])
      assert.ok(files.includes(`${name}.js`), name);
    for (const file of files) {
      const text = readFileSync(path.join(programs, file), 'utf8');
      const imported = [...text.matchAll(/^(?:import .*|} )from "([^"]+)";$/gm)].map(([, from = '']) => from);
      for (const from of imported) {
        const isOwn = from.startsWith('.') && files.includes(path.join(path.dirname(file), from));
        // An import of any other reads all that it exports, and node:http loads the whole of fetch for that.
        assert.ok(isOwn || from === 'node:module', `${file} imports ${from}`);
        if (isOwn)
          assert.match(file, /^(?:culvert|parts\/culvert-[A-Z0-9]{8})\.js$/, 'the entry of a daemon has a part');
      }
      assert.doesNotMatch(text, /import\.meta\.url\)(?!;)/, `${file} looks for files next to itself`);
      assert.match(text, /^[\0-\x7f]*$/, `${file} has characters that Node holds with two bytes each`);
    }
  });

  it('makes programs that need no package, as in a container image', async () => {
    rmSync(path.join(clone, 'node_modules'), { recursive: true });
    await answerTheirVersion();
    const context = path.join(clone, 'context.yaml');
    const { rootPem: ca } = await createRootCa({ trustDomain: 'mesh.test' });
    writeFileSync(context, JSON.stringify({ controller: 'https://127.0.0.1:1', ca, token: 'x' }), { mode: 0o600 });
    const argv = [process.execPath, path.join(clone, 'dist/programs/culvert.js')];
    const { stderr } = await runCommand([...argv, '--context', context, 'check']);
    assert.match(stderr, /cannot reach the controller at https:\/\/127\.0\.0\.1:1: nothing listens there/);
    assert.match(await requireSuccess([...argv, 'install']), /kind: DaemonSet/);
  });
});
