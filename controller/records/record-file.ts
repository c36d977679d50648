import { open, readFile, rename, rm, type FileHandle } from 'node:fs/promises';
import { basename } from 'node:path';
import { CulvertError, describeError } from '../../shared/errors.js';
import { syncDirectoryOf } from '../../shared/private-file.js';
import { hintForWrite } from '../../shared/write-hint.js';

/** A file is replaced in writes of about this size. */
const chunkBytes = 1024 * 1024;

/**
 * An append-only file that survives a crash at any point. {@link append} returns when the bytes are on disk. A failed write
 * is undone, so that it does not come back after a restart. {@link replace} writes a whole new file and renames it over the
 * old one. Mode 0600. One process, one writer, one call at a time.
 *
 * Errors: `JOURNAL_READ`, and `JOURNAL_WRITE` (disk full or failing), which name the file.
 */
export class RecordFile {
  readonly path: string;
  #handle: FileHandle;
  #length: number;
  /** Set when a failed write could not be undone: the content of the file is unknown until it is replaced. */
  #isBroken = false;

  private constructor(init: { readonly path: string; readonly handle: FileHandle; readonly length: number }) {
    this.path = init.path;
    this.#handle = init.handle;
    this.#length = init.length;
  }

  /** Undefined when there is no such file. */
  static async read(path: string): Promise<Buffer | undefined> {
    try {
      return await readFile(path);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new CulvertError({
        code: 'JOURNAL_READ',
        message: `cannot read ${path}: ${describeError(cause)}`,
        hint: 'check the permissions of the state directory',
        cause,
      });
    }
  }

  /** Opens the file for appending after its first `length` bytes, and cuts off the rest; 0 makes it empty. */
  static async open({ path, length }: { readonly path: string; readonly length: number }): Promise<RecordFile> {
    try {
      for (const left of ['.new', '.shorter']) await rm(`${path}${left}`, { force: true });
      const handle = await open(path, length > 0 ? 'r+' : 'w+', 0o600);
      await handle.truncate(length);
      await handle.sync();
      await syncDirectoryOf(path);
      return new RecordFile({ path, handle, length });
    } catch (cause) {
      throw writeError(path, cause);
    }
  }

  get length(): number {
    return this.#length;
  }

  /** True when only {@link replace} may be called. */
  get mustBeReplaced(): boolean {
    return this.#isBroken || this.#length === 0;
  }

  async append(bytes: Buffer): Promise<void> {
    try {
      const { bytesWritten } = await this.#handle.write(bytes, 0, bytes.length, this.#length);
      if (bytesWritten < bytes.length) throw new Error('the disk is full');
      await this.#handle.datasync();
    } catch (cause) {
      // A record that is complete on disk but was never acknowledged must not come back after a restart.
      await this.#handle
        .truncate(this.#length)
        .then(() => this.#handle.datasync())
        .catch(() => {
          this.#isBroken = true;
        });
      throw writeError(this.path, cause);
    }
    this.#length += bytes.length;
  }

  /** Replaces the whole content atomically. */
  async replace(pieces: Iterable<Buffer>): Promise<void> {
    const replacement = await this.#begin(`${this.path}.new`);
    await replacement.write(pieces);
    await replacement.finish();
  }

  /**
   * Begins a new file. Until {@link Replacement.finish} this one may still be appended to, and the caller writes those
   * bytes to both. Only one replacement at a time.
   */
  begin(): Promise<Replacement> {
    return this.#begin(`${this.path}.shorter`);
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async #begin(temporary: string): Promise<Replacement> {
    const handle = await open(temporary, 'w+', 0o600).catch((cause: unknown) => {
      throw writeError(this.path, cause);
    });
    let length = 0;
    const discard = async (): Promise<void> => {
      await handle.close().catch(() => undefined);
      await rm(temporary, { force: true }).catch(() => undefined);
    };
    const attempt = async (step: () => Promise<void>): Promise<void> => {
      try {
        await step();
      } catch (cause) {
        await discard();
        throw writeError(this.path, cause);
      }
    };
    return {
      write: (pieces) =>
        attempt(async () => {
          for (const chunk of chunksOf(pieces)) {
            await handle.writeFile(chunk);
            length += chunk.length;
          }
        }),
      finish: async () => {
        await attempt(async () => {
          await handle.sync();
          await rename(temporary, this.path);
        });
        await this.#handle.close();
        this.#handle = handle;
        this.#length = length;
        // Until the directory is on disk, a crash may bring the old file back.
        this.#isBroken = true;
        await syncDirectoryOf(this.path).catch((cause: unknown) => {
          throw writeError(this.path, cause);
        });
        this.#isBroken = false;
      },
      abandon: () => discard(),
    };
  }
}

/** A new file that is to replace the old one. After an error it is removed, and the old one stays. */
export type Replacement = {
  readonly write: (pieces: Iterable<Buffer>) => Promise<void>;
  /** Resolves when the new file is in place and on disk. */
  readonly finish: () => Promise<void>;
  readonly abandon: () => Promise<void>;
};

function* chunksOf(pieces: Iterable<Buffer>): Generator<Buffer> {
  let waiting: Buffer[] = [];
  let bytes = 0;
  for (const piece of pieces) {
    waiting.push(piece);
    bytes += piece.length;
    if (bytes < chunkBytes) continue;
    yield Buffer.concat(waiting);
    waiting = [];
    bytes = 0;
  }
  if (bytes > 0) yield Buffer.concat(waiting);
}

function writeError(path: string, cause: unknown): CulvertError {
  return new CulvertError({
    code: 'JOURNAL_WRITE',
    message: `the change could not be written to ${basename(path)} in the state directory: ${describeError(cause)}`,
    hint: `${hintForWrite(cause)}; then apply again`,
    cause,
  });
}
