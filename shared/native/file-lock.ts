import { createRequire } from 'node:module';
import { open, stat, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { constants } from 'node:os';
import { CulvertError } from '../errors.js';
import { giveToOwnerOf } from '../private-file.js';

type Addon = { readonly lockFile: (fd: number) => boolean; readonly isLocked: (fd: number) => boolean };

let loaded: Addon | undefined;
/** Until they are released: Node closes a file that nothing refers to, and the lock would go with it. */
const held = new Set<FileHandle>();

function addon(): Addon {
  try {
    return (loaded ??= createRequire(import.meta.url)('./file-lock.node') as Addon);
  } catch (cause) {
    throw new CulvertError({
      code: 'NATIVE_ADDON',
      message: 'the addon that locks files cannot be loaded',
      hint: 'it needs Linux and a C compiler: apt-get install -y gcc libc6-dev, then npm run build',
      cause,
    });
  }
}

/** Errors: `NATIVE_ADDON`, where files cannot be locked. */
export function assertFileLocks(): void {
  addon();
}

/** A lock that the kernel has for as long as the file is open. Its owner closes it. */
export interface FileLock {
  readonly release: () => Promise<void>;
  /** Whether the path still leads to the file that is locked: one that was removed, or replaced, is locked for nothing. */
  readonly isInPlace: () => Promise<boolean>;
}

/** What a file says that another has locked. */
export type LockedByOther = { readonly text: string };

/**
 * Locks a file in the kernel (fcntl(2), a lock of the open file) and writes `text` into it, about its owner; makes the file where
 * it is missing (mode 0600). It is seen from every container of the machine. The file stays when the lock goes. Errors:
 * `NATIVE_ADDON`; a CulvertError whose code is the errno's name, where the file system has no locks; those of `open` and `write`.
 */
export async function lockFile(path: string, text: string): Promise<FileLock | LockedByOther> {
  const { lockFile: lock } = addon();
  const file = await open(path, 'a+', 0o600);
  try {
    if (!answerOf(lock, file)) {
      const said = await textOf(file);
      await file.close();
      return { text: said };
    }
    await giveToOwnerOf(dirname(path), file);
    await file.truncate();
    await file.write(`${text}\n`);
  } catch (error) {
    await file.close();
    throw error;
  }
  held.add(file);
  return {
    release: async () => {
      held.delete(file);
      await file.close();
    },
    isInPlace: async () => {
      const [own, there] = await Promise.all([
        file.stat({ bigint: true }),
        stat(path, { bigint: true }).catch((error: unknown) => {
          if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
          throw error;
        }),
      ]);
      return own.ino === there?.ino && own.dev === there.dev;
    },
  };
}

/** Makes the file where it is missing, for another process to lock. Errors: those of `open`. */
export async function makeLockFile(path: string): Promise<void> {
  const file = await open(path, 'a', 0o600);
  try {
    await giveToOwnerOf(dirname(path), file);
  } finally {
    await file.close();
  }
}

/**
 * What a file says that is locked; null: it is not locked, or is missing. Takes no lock, and makes and writes no file, so neither
 * the one that has the lock nor one that takes it meanwhile notices. Errors: those of {@link lockFile}, without those of `write`.
 */
export async function findLock(path: string): Promise<LockedByOther | null> {
  const { isLocked } = addon();
  const file = await open(path, 'r').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  });
  if (file === null) return null;
  try {
    return answerOf(isLocked, file) ? { text: await textOf(file) } : null;
  } finally {
    await file.close();
  }
}

async function textOf(file: FileHandle): Promise<string> {
  return (await file.readFile('utf8')).trim();
}

function answerOf(question: (fd: number) => boolean, { fd }: FileHandle): boolean {
  try {
    return question(fd);
  } catch (cause) {
    const code = nameOf((cause as { readonly errno?: number }).errno);
    throw new CulvertError({
      code,
      message: `the file system cannot lock a file: ${code}`,
      hint: 'keep the state on a file system with locks (fcntl), such as ext4, XFS, or NFS 4',
      cause,
    });
  }
}

/** Node's own function for it does not know ENOLCK. */
function nameOf(errno: number | undefined): string {
  return Object.entries(constants.errno).find(([, number]) => number === errno)?.[0] ?? 'EIO';
}
