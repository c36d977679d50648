import assert from 'node:assert/strict';
import { open, rm } from 'node:fs/promises';
import path from 'node:path';
import { runCommand } from '../../lab/command.js';
import { temporaryDirectory } from './controller-fixture.js';

/** A file system of its own (tmpfs) that a test can fill. */
export interface SmallDisk extends AsyncDisposable {
  readonly path: string;
  /** Takes all the room that is left. */
  fill(): Promise<void>;
  /** Gives it back. */
  free(): Promise<void>;
}

export async function smallDisk(size: string): Promise<SmallDisk> {
  const directory = await temporaryDirectory();
  const mounted = await runCommand(['mount', '-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', directory.path]);
  assert.equal(mounted.code, 0, mounted.stderr);
  const ballast = path.join(directory.path, 'ballast');
  return {
    path: directory.path,
    fill: async () => {
      const handle = await open(ballast, 'w');
      try {
        for (;;) await handle.writeFile(Buffer.alloc(64 * 1024));
      } catch (error) {
        assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
      } finally {
        await handle.close();
      }
    },
    free: () => rm(ballast, { force: true }),
    [Symbol.asyncDispose]: async () => {
      const unmounted = await runCommand(['umount', directory.path]);
      assert.equal(unmounted.code, 0, unmounted.stderr);
      await directory[Symbol.asyncDispose]();
    },
  };
}
