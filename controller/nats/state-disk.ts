import { open, rm, stat, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { formatBytes } from '../../shared/config/units.js';
import { CulvertError } from '../../shared/errors.js';
import { hintForWrite } from '../../shared/write-hint.js';

/** Kept free: nats-server can hang for good when a write of its own finds no room. */
const reserveBytes = 1024 * 1024;
/** A change is stored several times: announced, as rules in base64, as documents, and in the journal. */
const copies = 4;
/** How long a measurement counts. A large change makes thousands of writes. */
const measuredForMs = 200;
const trialBytes = 64 * 1024;

export type DiskSpace = {
  /** What this process may still use. */
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** Null where the file system has no limit. */
  readonly freeFiles: number | null;
};

/** The disk of a directory: how much room it has, and whether a write succeeds now. */
export class StateDisk {
  readonly #directory: string;
  readonly #read: (directory: string) => Promise<DiskSpace>;
  #space: DiskSpace = { freeBytes: Number.POSITIVE_INFINITY, totalBytes: Number.POSITIVE_INFINITY, freeFiles: null };
  #measuredAt = Number.NEGATIVE_INFINITY;
  /** Device and inode of the directory, by the first measurement. */
  #identity: string | null = null;

  /** `read`: for tests. */
  constructor(init: { readonly directory: string; readonly read?: (directory: string) => Promise<DiskSpace> }) {
    this.#directory = init.directory;
    this.#read = init.read ?? diskSpace;
  }

  /** The last measurement; infinite before the first. */
  get space(): DiskSpace {
    return this.#space;
  }

  /** Throws `DISK_FAILED` when the file system cannot be asked. */
  async measure(): Promise<void> {
    await this.#refresh();
  }

  /** Throws `DISK_FULL` when there is no room for a change of this size. */
  async requireRoom(bytes = 0): Promise<void> {
    await this.#refresh();
    const { freeBytes, freeFiles } = this.#space;
    const neededBytes = reserveBytes + copies * bytes;
    if (freeFiles === 0) throw diskFull(`${this.#directory} can take no more files`);
    if (freeBytes >= neededBytes) return;
    throw diskFull(
      `${formatSize(freeBytes)} of ${this.#directory} are free, and ${formatSize(neededBytes)} are needed`,
    );
  }

  /** Why nothing can be written now, from a measurement and a trial; null when a write succeeds. */
  async problem(): Promise<CulvertError | null> {
    this.#measuredAt = Number.NEGATIVE_INFINITY;
    try {
      await this.requireRoom();
      await this.#tryWriting();
      return null;
    } catch (error) {
      return error instanceof CulvertError ? error : unwritable(this.#directory, error);
    }
  }

  async #refresh(): Promise<void> {
    const now = performance.now();
    if (now - this.#measuredAt < measuredForMs) return;
    await this.#requireSame();
    this.#space = await this.#read(this.#directory).catch((cause: unknown) => {
      throw unwritable(this.#directory, cause);
    });
    this.#measuredAt = now;
  }

  /** Files that are open belong to the directory of the start: in another one at the same path, none of them is found again. */
  async #requireSame(): Promise<void> {
    const { dev, ino } = await stat(this.#directory).catch((cause: unknown) => {
      throw unwritable(this.#directory, cause);
    });
    const identity = `${dev} ${ino}`;
    this.#identity ??= identity;
    if (this.#identity === identity) return;
    throw new CulvertError({
      code: 'DISK_FAILED',
      message: `${this.#directory} is another directory than at the start: it was replaced, or its file system is not mounted`,
      hint: 'put the directory back; or stop the controller, restore it, and start again',
    });
  }

  /** Finds what a measurement does not show: quotas, a file system that became read-only, a failing disk. */
  async #tryWriting(): Promise<void> {
    // One name, so that a process that is killed here leaves no more than one file.
    const path = join(this.#directory, '.trial');
    try {
      const handle = await open(path, 'w', 0o600);
      try {
        await handle.writeFile(Buffer.alloc(trialBytes));
        await handle.sync();
      } finally {
        await handle.close();
      }
    } finally {
      await rm(path, { force: true }).catch(() => undefined);
    }
  }
}

async function diskSpace(directory: string): Promise<DiskSpace> {
  const { bavail, bfree, blocks, bsize, files, ffree } = await statfs(directory);
  return {
    // The superuser may use the reserved blocks too.
    freeBytes: (process.getuid?.() === 0 ? bfree : bavail) * bsize,
    totalBytes: blocks * bsize,
    freeFiles: files === 0 ? null : ffree,
  };
}

function diskFull(what: string): CulvertError {
  return new CulvertError({
    code: 'DISK_FULL',
    message: `the disk is full: ${what}`,
    hint: hintForWrite({ code: 'ENOSPC' }),
  });
}

function unwritable(directory: string, cause: unknown): CulvertError {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === 'ENOSPC') return diskFull(`nothing can be written in ${directory}`);
  return new CulvertError({
    code: 'DISK_FAILED',
    message: `nothing can be written in ${directory}: ${cause instanceof Error ? cause.message : String(cause)}`,
    hint: hintForWrite(cause),
    cause,
  });
}

/** In whole MiB or KiB. */
function formatSize(bytes: number): string {
  const unit = bytes < 1024 * 1024 ? 1024 : 1024 * 1024;
  return bytes < 1024 ? `${bytes} bytes` : formatBytes(Math.round(bytes / unit) * unit);
}
