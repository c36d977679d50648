import { randomBytes } from 'node:crypto';
import { lstat, mkdir, open, readFile, rename, rm, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CulvertError, describeError } from './errors.js';
import { hintForWrite } from './write-hint.js';

/**
 * Writes a file atomically that only its owner can read (mode 0600), and returns when it and its name are on disk:
 * written next to the old file, synced, renamed over it, and the directory synced (rename(2), fsync(2)). Creates
 * missing parent directories (0700). `forOwnerOfDirectory`: root gives the file to the owner of its directory, so that a command
 * that root runs leaves nothing that the program cannot read. Throws CulvertError `STATE_WRITE`; the old file then stays.
 */
export async function writePrivateFile(
  path: string,
  content: string | Uint8Array,
  o: { readonly forOwnerOfDirectory?: boolean } = {},
): Promise<void> {
  // A unique name, because another process may be writing the same file.
  const temporary = `${path}.new-${randomBytes(4).toString('hex')}`;
  try {
    await makePrivateDirectory(dirname(path));
    const handle = await open(temporary, 'wx', 0o600);
    try {
      if (o.forOwnerOfDirectory === true) await giveToOwnerOf(dirname(path), handle);
      await handle.writeFile(content);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
    await syncDirectoryOf(path);
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw await cannotWrite(path, dirname(path), cause);
  }
}

/** Has root leave nothing that the program of a state directory, which may run as another user, cannot open. */
export async function giveToOwnerOf(directory: string, file: FileHandle): Promise<void> {
  if (process.geteuid?.() !== 0) return;
  const { uid, gid } = await stat(directory);
  if (uid !== 0) await file.chown(uid, gid);
}

/** The state directory of a program, with {@link makePrivateDirectory}. Throws CulvertError `STATE_WRITE`. */
export async function makeStateDirectory(path: string): Promise<void> {
  try {
    await makePrivateDirectory(path);
  } catch (cause) {
    throw await cannotWrite(path, path, cause);
  }
}

async function cannotWrite(path: string, directory: string, cause: unknown): Promise<CulvertError> {
  const obstacle = await obstacleIn(directory, cause);
  return new CulvertError({
    code: 'STATE_WRITE',
    message: `cannot write ${path}: ${obstacle ?? describeError(cause)}`,
    hint: obstacle === null ? hintForWrite(cause) : obstacleHint,
    cause,
  });
}

const obstacleHint = 'name another directory with --state-dir, or move what is in its place away';

/** What is in the place of this directory or of one above it; null: nothing, the file system says something else. */
async function obstacleIn(directory: string, cause: unknown): Promise<string | null> {
  const { code = '' } = cause as NodeJS.ErrnoException;
  if (!['ENOTDIR', 'EEXIST', 'ELOOP'].includes(code)) return null;
  for (let path = directory; ; path = dirname(path)) {
    const found = await stat(path).catch(() => null);
    if (found !== null) return found.isDirectory() ? null : `${path} is no directory`;
    const link = await lstat(path).catch(() => null);
    if (link !== null) return `${path} is a link to no directory`;
    if (dirname(path) === path) return null;
  }
}

/**
 * Makes a directory that only its owner can enter (mode 0700), with those above it. Rejects with the file system's error.
 * Node's recursive mkdir never ends where the kernel says "no such file or directory" below a directory that exists, as in
 * /proc, and it says so itself where the file system is mounted read-only.
 */
async function makePrivateDirectory(path: string): Promise<void> {
  const cause = await tryMakeDirectory(path);
  if (cause === null) return;
  if (cause.code !== 'ENOENT' || dirname(path) === path) throw cause;
  await makePrivateDirectory(dirname(path));
  const again = await tryMakeDirectory(path);
  if (again !== null) throw again;
}

/** Null: the directory is there. */
async function tryMakeDirectory(path: string): Promise<NodeJS.ErrnoException | null> {
  try {
    await mkdir(path, { mode: 0o700 });
    return null;
  } catch (error) {
    const cause = error as NodeJS.ErrnoException;
    // Some file systems say that they are read-only, or that there is no room, before they look.
    const isThere = await stat(path).then(
      (found) => found.isDirectory(),
      () => false,
    );
    return isThere ? null : cause;
  }
}

/**
 * Proves that {@link writePrivateFile} can write a file of this size there now, and leaves nothing behind. Throws CulvertError
 * `STATE_WRITE`.
 */
export async function assertPrivateFileWritable(path: string, bytes: number): Promise<void> {
  const probe = `${path}.probe-${randomBytes(4).toString('hex')}`;
  await writePrivateFile(probe, randomBytes(bytes));
  await rm(probe, { force: true });
}

const readHint = 'check the owner and the permissions of the file and of the directories above it';

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
    const obstacle = await obstacleIn(dirname(path), cause);
    throw new CulvertError({
      code: 'STATE_READ',
      message: `cannot read ${path}: ${obstacle ?? describeError(cause)}`,
      hint: obstacle === null ? readHint : obstacleHint,
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
