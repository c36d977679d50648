import { rename } from 'node:fs/promises';
import type { Log } from '../../shared/log.js';
import { describeError } from '../../shared/errors.js';
import { RecordFile } from '../records/record-file.js';
import type { Commit, CommittedState } from '../release/committed-state.js';
import { defaultHistoryLimits, emptyHistory, History, type HistoryLimits } from './history.js';
import { rejoined, salvage, type Salvaged } from './salvaged-history.js';
import { encodeRecord, playJournal, recordsOf } from './journal-record.js';

/** The file is compacted when its content beyond the kept history reaches either bound. */
const maxStaleRecords = 1000;
const maxStaleBytes = 16 * 1024 * 1024;

/**
 * The controller's own fsynced log of applied rules: `journal.log` in the state directory. A change is made when
 * {@link append} has returned. The buckets can be rebuilt from the journal, because nats-server acknowledges writes before
 * they are on disk, and its store may be wiped.
 *
 * One process, one writer. Errors: `JOURNAL_WRITE` (disk full or failing; the change is not in it), `JOURNAL_READ`.
 */
export class Journal {
  readonly #file: RecordFile;
  readonly #log: Log;
  readonly #limits: HistoryLimits;
  #history: History;
  /** Of the file that was moved aside. */
  #salvaged: Salvaged | null = null;
  /** Number of commits in the file, and the size of everything else in it. */
  #commits: number;
  #checkpointBytes: number;

  private constructor(init: { file: RecordFile; log: Log; limits: HistoryLimits; history: History }) {
    this.#file = init.file;
    this.#log = init.log;
    this.#limits = init.limits;
    this.#history = init.history.within(init.limits);
    this.#commits = init.history.records.length;
    this.#checkpointBytes = init.file.length - bytesOf(init.history);
  }

  /**
   * Opens or creates the journal. `state` is undefined when there was no usable one; a damaged journal is moved aside, and
   * `movedAside` names it.
   */
  static async open(init: { path: string; log: Log; nowMs: () => number; limits?: HistoryLimits }): Promise<{
    journal: Journal;
    state: CommittedState | undefined;
    movedAside: string | null;
  }> {
    const { path, log, limits = defaultHistoryLimits } = init;
    const bytes = await RecordFile.read(path);
    const content = bytes === undefined ? undefined : playJournal(bytes);
    let movedAside: string | null = null;
    if (content?.ok === false && bytes !== undefined && bytes.length > 0) {
      movedAside = `${path}.corrupt-${init.nowMs()}`;
      await rename(path, movedAside);
      log.error({ problem: content.problem, movedAside }, 'the journal cannot be used and was moved aside');
    }
    const isUsable = content?.ok === true;
    const length = isUsable ? content.validBytes : 0;
    const file = await RecordFile.open({ path, length });
    if (isUsable && bytes !== undefined && length < bytes.length) {
      log.warn({ bytes: bytes.length - length }, 'dropped the incomplete last record of the journal');
    }
    const history = isUsable ? content.history : emptyHistory;
    const journal = new Journal({ file, log, limits, history });
    if (movedAside !== null && bytes !== undefined) journal.#salvaged = salvage(bytes);
    return { journal, state: isUsable ? history.head : undefined, movedAside };
  }

  /** The kept revisions, including the newest. */
  get history(): History {
    return this.#history;
  }

  /** Returns when the commit, the one after the newest in {@link history}, is on disk. */
  async append(commit: Commit): Promise<void> {
    const bytes = encodeRecord({ kind: 'commit', ...commit });
    const history = this.#history.with(commit, bytes.length).within(this.#limits);
    // A new file, renamed over the old one, also repairs a write that could not be undone.
    if (this.#file.mustBeReplaced) return this.#rewrite(history);
    await this.#file.append(bytes);
    this.#history = history;
    this.#commits += 1;
    const staleBytes = this.#file.length - this.#checkpointBytes - bytesOf(history);
    if (this.#commits - history.records.length < maxStaleRecords && staleBytes < maxStaleBytes) return;
    // The commit is on disk already: when compaction fails, the file only stays longer.
    await this.#rewrite(history).catch((error: unknown) => {
      this.#log.warn({ error: describeError(error) }, 'could not compact journal.log');
    });
  }

  /** Replaces everything atomically by one state, with the history that a damaged file still had of it. */
  async checkpoint(state: CommittedState): Promise<void> {
    const history = this.#salvaged === null ? null : rejoined(this.#salvaged, state).within(this.#limits);
    await this.#rewrite(history ?? History.startingAt(state, state.revision));
    this.#salvaged = null;
  }

  /** Notes that the inventory has taken over workloads and services. Called once, when the inventory has them on disk. */
  async handOver(): Promise<CommittedState> {
    await this.#rewrite(this.#history.withInventorySince(this.#history.head.revision));
    return this.#history.head;
  }

  async #rewrite(history: History): Promise<void> {
    const records = recordsOf(history).map(encodeRecord);
    await this.#file.replace(records);
    this.#commits = history.records.length;
    this.#checkpointBytes = this.#file.length - bytesOf(history);
    this.#history = history;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }
}

/** Size of the commits in the file. */
function bytesOf({ records }: History): number {
  return records.reduce((sum, record) => sum + record.bytes, 0);
}
