import { randomBytes } from 'node:crypto';
import { mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CulvertError, describeError } from './errors.js';
import { hintForWrite } from './write-hint.js';

/**
 * Writes a file atomically that only its owner can read (mode 0600), and returns when it and its name are on disk:
 * written next to the old file, synced, renamed over it, and the directory synced (rename(2), fsync(2)). Creates
 * missing parent directories (0700). Throws CulvertError `STATE_WRITE`; the old file then stays.
 */
export async function writePrivateFile(path: string, content: string | Uint8Array): Promise<void> {
  // A unique name, because another process may be writing the same file.
  const temporary = `${path}.new-${randomBytes(4).toString('hex')}`;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    const handle = await open(temporary, 'wx', 0o600);
    try {
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
    await syncDirectoryOf(path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw new CulvertError({
      code: 'STATE_WRITE',
      message: `cannot write ${path}: ${describeError(cause)}`,
      hint: hintForWrite(cause),
      cause,
    });
  }
}

/** Undefined if the file does not exist. Throws CulvertError `STATE_READ` if it exists and cannot be read. */
export async function readPrivateFile(path: string): Promise<string | undefined> {
  return (await readPrivateBytes(path))?.toString('utf8');
}

/** Like {@link readPrivateFile}, for binary files. */
export async function readPrivateBytes(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new CulvertError({
      code: 'STATE_READ',
      message: `cannot read ${path}: ${describeError(cause)}`,
      hint: 'check the owner and the permissions of the file and of the directories above it',
      cause,
    });
  }
}

/**
 * A rename or a new file is durable only once its directory is synced (fsync(2)). Rejects with the file system's error.
 */
export async function syncDirectoryOf(path: string): Promise<void> {
  const directory = await open(dirname(path), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
