import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, it } from 'node:test';
import { requireSuccess, runCommand } from '../../lab/command.js';
import { declaredPrograms, requirementsOf } from '../../lab/declared-programs.js';

const module = new URL('../../lab/declared-path.js', import.meta.url).href;

/** The output of a new process that first enters the PATH of a run. The system's directories are where programs are found. */
function inDeclaredPath(run: string, code: string): Promise<string> {
  const program = `import { DeclaredPath } from ${JSON.stringify(module)};
    import { execFileSync } from 'node:child_process';
    using path = DeclaredPath.enter(${JSON.stringify(run)});
    ${code}`;
  // Node 20 has no "using".
  const plain = program.replace('using path', 'const path');
  return requireSuccess([process.execPath, '--input-type=module', '-e', plain]);
}

describe('the PATH of a run', () => {
  it('has the declared programs of the run that are installed, Node and npm, and nothing else', async () => {
    const code = `import { readdirSync } from 'node:fs'; console.log(readdirSync(path.directory).join(' '))`;
    const found = (await inDeclaredPath('demo', code)).trim().split(' ');
    const declared = new Set(requirementsOf('demo').map(({ command }) => command));
    assert.deepEqual(
      found.filter((command) => !declared.has(command) && !['node', 'npm', 'npx'].includes(command)),
      [],
    );
    for (const command of ['node', 'ip', 'sh', 'nats-server', 'iptables']) assert.ok(found.includes(command), command);
    assert.ok(!found.includes('nft'), 'nft is declared for the tests only');
  });

  it('makes an undeclared program fail, also in a shell and in a namespace, although the machine has it', async () => {
    assert.equal(
      (await runCommand(['/bin/sh', '-c', 'PATH=/usr/bin:/bin; od </dev/null'])).code,
      0,
      'the machine has od',
    );
    const code = `
      for (const argv of [['od'], ['sh', '-c', 'od </dev/null'], ['unshare', '-n', 'od'], ['nsenter', '--net=/proc/self/ns/net', 'od']]) {
        try { execFileSync(argv[0], argv.slice(1), { stdio: 'ignore' }); console.log('ran'); }
        catch (error) { console.log(error.code ?? error.status); }
      }`;
    assert.equal(await inDeclaredPath('tests', code), 'ENOENT\n127\n127\n127\n');
  });

  it('lets programs start those that they need themselves', async () => {
    const code = `
      for (const argv of [['iptables', '-V'], ['npm', '--version'], ['node', '--version'], ['sh', '-c', 'true'], ['nginx', '-v']])
        execFileSync(argv[0], argv.slice(1), { stdio: ['ignore', 'ignore', 'pipe'] });
      console.log('ok')`;
    assert.equal(await inDeclaredPath('tests', code), 'ok\n');
  });

  it('is gone after the process', async () => {
    const directory = (await inDeclaredPath('lab', 'console.log(path.directory)')).trim();
    assert.ok(path.isAbsolute(directory) && !existsSync(directory));
  });

  it('is that of these tests', () => {
    const directory = process.env['PATH'] ?? '';
    assert.match(path.basename(directory), /^culvert-programs-\d+-\w+$/);
    const declared = new Set([...declaredPrograms.map(({ command }) => command), 'node', 'npm', 'npx']);
    assert.deepEqual(
      readdirSync(directory).filter((name) => !declared.has(name)),
      [],
    );
  });
});
