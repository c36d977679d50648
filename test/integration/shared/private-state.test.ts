import assert from 'node:assert/strict';
import { chmod, chown, lchown, mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { createLog } from '../../../shared/log.js';
import { keepPrivate } from '../../../shared/private-state.js';

const otherUser = 65_534;

test('a file of another user in the state directory is an error, and what that user planted is not followed', async () => {
  const outside = await mkdtemp(path.join(tmpdir(), 'private-'));
  try {
    const directory = path.join(outside, 'state');
    const target = path.join(outside, 'target');
    await writeFile(target, 'public');
    await chmod(target, 0o644);
    await mkdir(directory);
    // As it was left by a careless hand: every user of the host may write there.
    await chmod(outside, 0o755);
    await chmod(directory, 0o777);
    const file = path.join(directory, 'key.json');
    await writeFile(file, 'secret', { mode: 0o600 });
    await chown(file, otherUser, otherUser);
    const link = path.join(directory, 'link');
    await symlink('../target', link);
    await lchown(link, otherUser, otherUser);
    const lines: string[] = [];
    await keepPrivate(
      directory,
      { names: ['key.json', 'link'], marks: ['key.json'] },
      createLog({ name: 'test', level: 'info', stream: { write: (line) => lines.push(line) } }),
    );
    assert.equal((await stat(target)).mode & 0o777, 0o644);
    assert.equal((await stat(directory)).mode & 0o777, 0o700);
    assert.ok(lines.some((line) => line.includes('belong to another user') && line.includes(file)));
  } finally {
    await rm(outside, { recursive: true });
  }
});
