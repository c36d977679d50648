import { open, readFile, rename, type FileHandle } from 'node:fs/promises';
import type { Logger } from 'pino';
import { CulvertError, describeError } from '../../shared/errors.js';
import { syncDirectoryOf } from '../../shared/private-file.js';
import { hintForWrite } from '../../shared/write-hint.js';
import type { Commit, CommittedState } from '../release/committed-state.js';
import { defaultHistoryLimits, emptyHistory, History, type HistoryLimits } from './history.js';
import { encodeRecord, playJournal, recordsOf } from './journal-record.js';

/** The file is rewritten when what it holds beyond the history that is kept reaches either bound. */
const maxStaleRecords = 1000;
const maxStaleBytes = 16 * 1024 * 1024;

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
  readonly #limits: HistoryLimits;
  #handle: FileHandle;
  #history: History;
  #length: number;
  /** Commits in the file, and what is in it besides them. */
  #commits: number;
  #checkpointBytes: number;
  /** Set when a failed write could not be taken back: what the file holds is unknown until it is written anew. */
  #isBroken = false;

  private constructor(init: {
    path: string;
    log: Logger;
    limits: HistoryLimits;
    handle: FileHandle;
    history: History;
    length: number;
  }) {
    this.#path = init.path;
    this.#log = init.log;
    this.#limits = init.limits;
    this.#handle = init.handle;
    this.#history = init.history.within(init.limits);
    this.#length = init.length;
    this.#commits = init.history.records.length;
    this.#checkpointBytes = init.length - bytesOf(init.history);
  }

  /**
   * Opens or creates it. `state` is undefined when there was none, or none that could be used: a damaged journal is
   * moved aside and `movedAside` names it.
   */
  static async open(init: { path: string; log: Logger; nowMs: () => number; limits?: HistoryLimits }): Promise<{
    journal: Journal;
    state: CommittedState | undefined;
    movedAside: string | null;
  }> {
    const { path, log, limits = defaultHistoryLimits } = init;
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
    await syncDirectoryOf(path);
    if (isUsable && bytes !== undefined && length < bytes.length) {
      log.warn({ bytes: bytes.length - length }, 'dropped the incomplete last record of the journal');
    }
    const history = isUsable ? content.history : emptyHistory;
    const journal = new Journal({ path, log, limits, handle, history, length });
    return { journal, state: isUsable ? history.head : undefined, movedAside };
  }

  /** What was written: the revisions that are kept, the newest included. */
  get history(): History {
    return this.#history;
  }

  /** Returns when the commit, the one after the newest in {@link history}, is on disk. */
  async append(commit: Commit): Promise<void> {
    const bytes = encodeRecord({ kind: 'commit', ...commit });
    const history = this.#history.with(commit, bytes.length).within(this.#limits);
    // A whole new file, renamed over the old one, is also the way out of a write that could not be taken back.
    if (this.#length === 0 || this.#isBroken) return this.#rewrite(history);
    await this.#write(bytes);
    this.#history = history;
    this.#commits += 1;
    const staleBytes = this.#length - this.#checkpointBytes - bytesOf(history);
    if (this.#commits - history.records.length < maxStaleRecords && staleBytes < maxStaleBytes) return;
    // The commit is safe already: a rewrite that fails only leaves the file longer.
    await this.#rewrite(history).catch((error: unknown) => {
      this.#log.warn({ error: describeError(error) }, 'the journal could not be shortened');
    });
  }

  /** Replaces everything by one state without a past, atomically. */
  async checkpoint(state: CommittedState): Promise<void> {
    await this.#rewrite(History.startingAt(state));
  }

  async #rewrite(history: History): Promise<void> {
    const records = recordsOf(history).map(encodeRecord);
    const bytes = Buffer.concat(records);
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
    this.#commits = history.records.length;
    this.#checkpointBytes = records[0]?.length ?? 0;
    // Until the directory is on disk, a crash may bring the old file back.
    this.#isBroken = true;
    await syncDirectoryOf(this.#path).catch((cause: unknown) => {
      throw writeError(cause);
    });
    this.#isBroken = false;
    this.#history = history;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async #write(bytes: Buffer): Promise<void> {
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
  }
}

/** Of its commits, in the file. */
function bytesOf({ records }: History): number {
  return records.reduce((sum, record) => sum + record.bytes, 0);
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

function writeError(cause: unknown): CulvertError {
  return new CulvertError({
    code: 'JOURNAL_WRITE',
    message: `the change could not be written to the state directory: ${describeError(cause)}`,
    hint: `${hintForWrite(cause)}; then apply again`,
    cause,
  });
}
