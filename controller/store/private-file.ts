import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CulvertError, describeError } from '../../shared/errors.js';

/**
 * Writes a file that only its owner can read (mode 0600), whole or not at all, and returns when it is on disk. Makes
 * the directories above it (0700). Throws CulvertError `STATE_WRITE`.
 */
export async function writePrivateFile(path: string, content: string): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const handle = await open(`${path}.new`, 'w', 0o600);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(`${path}.new`, path);
    const directory = await open(dirname(path), 'r');
    try {
      await directory.sync();
    } finally {
      await directory.close();
    }
  } catch (cause) {
    throw new CulvertError({
      code: 'STATE_WRITE',
      message: `cannot write ${path}: ${describeError(cause)}`,
      hint: 'free disk space, or check the permissions of the state directory',
      cause,
    });
  }
}

/** Undefined when there is no such file. Throws CulvertError `STATE_READ` when there is one that cannot be read. */
export async function readPrivateFile(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new CulvertError({
      code: 'STATE_READ',
      message: `cannot read ${path}: ${describeError(cause)}`,
      hint: 'check the permissions of the state directory',
      cause,
    });
  }
}
