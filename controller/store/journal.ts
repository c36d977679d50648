import { open, readFile, rename, type FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Logger } from 'pino';
import { CulvertError, describeError } from '../../shared/errors.js';
import type { Commit, CommittedState } from './committed-state.js';
import { encodeRecord, playJournal, type JournalRecord } from './journal-record.js';

/** A journal is rewritten as one checkpoint beyond either bound. */
const maxRecords = 1000;
const maxBytes = 16 * 1024 * 1024;

/**
 * The controller's own, fsynced memory of everything that was applied: `journal.log` in the state directory. A change
 * counts from the moment that {@link append} has returned. nats-server acknowledges writes before they are on disk and
 * its store may be wiped; from the journal the buckets can be written anew.
 *
 * One process, one writer. Errors: `JOURNAL_WRITE` (disk full or failing; the change is not in it), `JOURNAL_READ`.
 */
export class Journal {
  readonly #path: string;
  readonly #log: Logger;
  #handle: FileHandle;
  #length: number;
  #records: number;
  /** Set when a failed write could not be taken back: what the file holds is unknown until it is read again. */
  #isBroken = false;

  private constructor(init: { path: string; log: Logger; handle: FileHandle; length: number; records: number }) {
    this.#path = init.path;
    this.#log = init.log;
    this.#handle = init.handle;
    this.#length = init.length;
    this.#records = init.records;
  }

  /**
   * Opens or creates it. `state` is undefined when there was none, or none that could be used: a damaged journal is
   * moved aside and `movedAside` names it.
   */
  static async open(init: { path: string; log: Logger; nowMs: () => number }): Promise<{
    journal: Journal;
    state: CommittedState | undefined;
    movedAside: string | null;
  }> {
    const { path, log } = init;
    const bytes = await readIfPresent(path);
    const content = bytes === undefined ? undefined : playJournal(bytes);
    let movedAside: string | null = null;
    if (content?.ok === false && bytes !== undefined && bytes.length > 0) {
      movedAside = `${path}.corrupt-${init.nowMs()}`;
      await rename(path, movedAside);
      log.error({ problem: content.problem, movedAside }, 'the journal cannot be used and was moved aside');
    }
    const isUsable = content?.ok === true;
    const length = isUsable ? content.validBytes : 0;
    const handle = await open(path, isUsable ? 'r+' : 'w+', 0o600);
    await handle.truncate(length);
    await handle.sync();
    await syncDirectory(path);
    if (isUsable && bytes !== undefined && length < bytes.length) {
      log.warn({ bytes: bytes.length - length }, 'dropped the incomplete last record of the journal');
    }
    const journal = new Journal({ path, log, handle, length, records: isUsable ? content.records : 0 });
    return { journal, state: isUsable ? content.state : undefined, movedAside };
  }

  /** Returns when the commit is on disk. `stateAfter` is what a checkpoint would hold. */
  async append(commit: Commit, stateAfter: CommittedState): Promise<void> {
    if (this.#records === 0) return this.checkpoint(stateAfter);
    await this.#write(encodeRecord({ kind: 'commit', ...commit }));
    if (this.#records < maxRecords && this.#length < maxBytes) return;
    // The commit is safe already: a checkpoint that fails only leaves the file longer.
    await this.checkpoint(stateAfter).catch((error: unknown) => {
      this.#log.warn({ error: describeError(error) }, 'the journal could not be shortened');
    });
  }

  /** Replaces everything by one state, atomically. */
  async checkpoint(state: CommittedState): Promise<void> {
    const record: JournalRecord = {
      kind: 'checkpoint',
      revision: state.revision,
      createdAt: state.createdAt,
      createdBy: state.createdBy,
      resources: [...state.resources.values()],
    };
    const bytes = encodeRecord(record);
    const handle = await writeWhole(`${this.#path}.new`, bytes);
    try {
      await rename(`${this.#path}.new`, this.#path);
    } catch (cause) {
      await handle.close();
      throw writeError(cause);
    }
    await this.#handle.close();
    this.#handle = handle;
    this.#length = bytes.length;
    this.#records = 1;
    // Until the directory is on disk, a crash may bring the old file back.
    this.#isBroken = true;
    await syncDirectory(this.#path).catch((cause: unknown) => {
      throw writeError(cause);
    });
    this.#isBroken = false;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async #write(bytes: Buffer): Promise<void> {
    if (this.#isBroken) throw writeError(new Error('an earlier write failed and could not be taken back'));
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
      throw writeError(cause);
    }
    this.#length += bytes.length;
    this.#records += 1;
  }
}

async function readIfPresent(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new CulvertError({
      code: 'JOURNAL_READ',
      message: `cannot read the journal: ${describeError(cause)}`,
      hint: 'check the permissions of the state directory',
      cause,
    });
  }
}

/** Returns the open, synced file. */
async function writeWhole(path: string, bytes: Buffer): Promise<FileHandle> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(path, 'w+', 0o600);
    await handle.writeFile(bytes);
    await handle.sync();
    return handle;
  } catch (cause) {
    await handle?.close();
    throw writeError(cause);
  }
}

/** A rename or a new file is durable only when its directory is (fsync(2)). */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(dirname(path), 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

function writeError(cause: unknown): CulvertError {
  return new CulvertError({
    code: 'JOURNAL_WRITE',
    message: `the change could not be written to the state directory: ${describeError(cause)}`,
    hint: 'free disk space or repair the disk, then apply again',
    cause,
  });
}
