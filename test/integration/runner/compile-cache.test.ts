import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import nodeModule from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import { requireSuccess } from '../../lab/command.js';
import { hasHelpers, labUser } from '../../lab/programs.js';

const runnerModule = new URL('../../runner/compile-cache.js', import.meta.url).href;
const loaded = new URL('../../../shared/errors.js', import.meta.url).href;
/** Node 20 has none; where only root can read the build, agents of labs stay root. */
const isUsed = 'enableCompileCache' in nodeModule && hasHelpers;

/** A run that starts an agent: a process that becomes the lab's user, then loads a module. */
const agent = `process.setgid(${labUser.gid}); process.setuid(${labUser.uid}); await import('${loaded}');`;
const run = (directory: string): string => `
import { execFileSync } from 'node:child_process';
const { keepCompiled } = await import('${runnerModule}');
keepCompiled('${directory}');
execFileSync(process.execPath, ['--input-type=module', '-e', ${JSON.stringify(agent)}], { stdio: 'inherit' });
`;

describe('what the processes of a run have compiled', () => {
  let directory = '';
  before(() => (directory = mkdtempSync(path.join(tmpdir(), 'culvert-compiled-'))));
  after(() => rmSync(directory, { recursive: true }));

  it('is kept also by agents, which are not root, and only for the run', async () => {
    const env = { NODE_COMPILE_CACHE: '' };
    await requireSuccess([process.execPath, '--input-type=module', '-e', run(directory)], { env });
    const kept = path.join(directory, 'compiled');
    assert.equal(statSync(kept).mode & 0o077, 0, 'others can enter it');
    const files = readdirSync(kept, { recursive: true, encoding: 'utf8' }).map((name) => path.join(kept, name));
    const owned = files.filter((file) => statSync(file).isFile() && statSync(file).uid === labUser.uid);
    assert.equal(owned.length > 0, isUsed, files.join(' '));
  });

  it('is shared with the lanes of the run', async () => {
    const own = mkdtempSync(path.join(directory, 'lane-'));
    const shared = path.join(directory, 'compiled');
    const lane = `${run(own)}console.log(process.env.NODE_COMPILE_CACHE);`;
    const argv = [process.execPath, '--input-type=module', '-e', lane];
    const used = await requireSuccess(argv, { env: { NODE_COMPILE_CACHE: shared } });
    assert.equal(used.trim(), isUsed ? shared : path.join(own, 'compiled'));
  });
});
