import { createRequire } from 'node:module';
import { open, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { CulvertError } from '../errors.js';
import { giveToOwnerOf } from '../private-file.js';

type Addon = { readonly lockFile: (fd: number) => boolean };

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
}

/** What a file says that another has locked. */
export type LockedByOther = { readonly text: string };

/**
 * Locks a file with flock(2) and writes `text` into it, about its owner; makes the file where it is missing (mode 0600). It is
 * seen from every container of the machine. The file stays when the lock goes. Errors: `NATIVE_ADDON`; a CulvertError whose code
 * is the errno's name, where the file system has no locks; those of `open` and `write`.
 */
export async function lockFile(path: string, text: string): Promise<FileLock | LockedByOther> {
  const { lockFile: lock } = addon();
  const file = await open(path, 'a+', 0o600);
  try {
    if (!isLocked(lock, file.fd)) {
      const said = (await file.readFile('utf8')).trim();
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
  };
}

function isLocked(lock: Addon['lockFile'], fd: number): boolean {
  try {
    return lock(fd);
  } catch (cause) {
    const code = getSystemErrorName(-((cause as { readonly errno?: number }).errno ?? 0)) || 'EIO';
    throw new CulvertError({
      code,
      message: `the file system cannot lock a file: ${code}`,
      hint: 'keep the state on a file system with locks (flock), such as ext4, XFS, or NFS 4',
      cause,
    });
  }
}
