import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { createLog } from '../../../shared/log.js';
import { keepPrivate } from '../../../shared/private-state.js';

const own = { names: ['key.json', 'fine.json', 'ca', 'link'], marks: ['ca'] };

describe('the rights of a state directory', () => {
  let outside: string;
  let directory: string;
  const lines: { readonly msg: string; readonly files?: readonly string[] }[] = [];
  const log = createLog({
    name: 'test',
    level: 'info',
    stream: { write: (line) => lines.push(JSON.parse(line) as (typeof lines)[number]) },
  });
  const modeOf = async (file: string): Promise<number> => (await stat(file)).mode & 0o777;

  beforeEach(async () => {
    lines.length = 0;
    outside = await mkdtemp(path.join(tmpdir(), 'private-'));
    directory = path.join(outside, 'state');
    await mkdir(path.join(directory, 'ca'), { recursive: true, mode: 0o700 });
  });
  afterEach(() => rm(outside, { recursive: true }));

  it('are taken from others, whose earlier access is an error in the log', async () => {
    const [open, nested, fine] = ['key.json', 'ca/root.json', 'fine.json'].map((name) => path.join(directory, name));
    for (const file of [open, nested, fine]) await writeFile(file ?? '', 'secret');
    await chmod(open ?? '', 0o644);
    await chmod(nested ?? '', 0o640);
    await chmod(fine ?? '', 0o600);
    await chmod(directory, 0o755);
    await keepPrivate(directory, own, log);
    for (const file of [open, nested, fine]) assert.equal(await modeOf(file ?? ''), 0o600, file);
    assert.equal(await modeOf(directory), 0o700);
    assert.equal(lines.length, 1);
    assert.match(lines[0]?.msg ?? '', /others had rights/);
    assert.deepEqual(new Set(lines[0]?.files), new Set([directory, nested, open]));
    await keepPrivate(directory, own, log);
    assert.equal(lines.length, 1, 'once');
  });

  it('are those of the files themselves: a link out of it changes nothing there', async () => {
    const other = path.join(outside, 'other');
    await writeFile(other, 'public', { mode: 0o644 });
    await chmod(other, 0o644);
    await symlink(other, path.join(directory, 'link'));
    await symlink(outside, path.join(directory, 'ca/up'));
    await keepPrivate(directory, own, log);
    assert.equal(await modeOf(other), 0o644);
    assert.deepEqual(lines, []);
  });

  it('may be reached by a link to the directory, and one that is not there is no error', async () => {
    await chmod(directory, 0o755);
    const link = path.join(outside, 'link');
    await symlink(directory, link);
    await keepPrivate(link, own, log);
    assert.equal(await modeOf(directory), 0o700);
    lines.length = 0;
    await keepPrivate(path.join(outside, 'nothing'), own, log);
    assert.deepEqual(lines, []);
  });

  it('of a directory that is not one of Culvert are left alone', async () => {
    const program = path.join(directory, 'program');
    await writeFile(program, '');
    await chmod(program, 0o755);
    await chmod(directory, 0o755);
    await keepPrivate(directory, { ...own, marks: ['trust-domain'] }, log);
    await mkdir(path.join(directory, 'init.d'));
    await chmod(path.join(directory, 'init.d'), 0o755);
    await writeFile(path.join(directory, 'key.json'), 'secret');
    await chmod(path.join(directory, 'key.json'), 0o644);
    assert.deepEqual(lines, []);
    await keepPrivate(directory, own, log);
    const modes = await Promise.all(
      ['', 'program', 'init.d', 'key.json'].map((name) => modeOf(path.join(directory, name))),
    );
    assert.deepEqual(modes, [0o755, 0o755, 0o755, 0o600]);
    assert.match(lines.map(({ msg }) => msg).join(), /has directories that are not of Culvert/);
  });
});
