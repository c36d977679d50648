import { rename } from 'node:fs/promises';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { SerialQueue } from '../../shared/serial-queue.js';
import { encodeLine } from '../records/record-line.js';
import { RecordFile, type Replacement } from '../records/record-file.js';
import { playInventory, wholeInventory, type InventoryContent, type WrittenChange } from './inventory-records.js';

/** The file is compacted when its changes take more than this, and more than everything else in it. */
const minChangesBytes = 8 * 1024 * 1024;

export type WholeInventory = Parameters<typeof wholeInventory>[0];

/**
 * The inventory on disk, `inventory.log`: a full copy, and the changes since. A change survives a crash at any point once
 * {@link append} has returned. Compaction runs in parallel to the appends, which never wait for it.
 */
export class InventoryLog {
  readonly #file: RecordFile;
  readonly #log: Log;
  /** The whole inventory, up to and including the change of the last call to {@link append}. */
  readonly #whole: () => WholeInventory;
  readonly #queue = new SerialQueue();
  #wholeBytes: number;
  /** What was appended since the compaction began; null when there is none. */
  #appendedMeanwhile: Buffer[] | null = null;
  #compaction: Promise<void> = Promise.resolve();
  /** Also true while a compaction that a replacement has overtaken still writes its file. */
  #isCompacting = false;
  /** After a failed compaction: the size of the changes that the next attempt waits for. Each attempt costs the whole. */
  #retryAboveBytes = 0;

  private constructor(init: { file: RecordFile; log: Log; whole: () => WholeInventory; wholeBytes: number }) {
    this.#file = init.file;
    this.#log = init.log;
    this.#whole = init.whole;
    this.#wholeBytes = init.wholeBytes;
  }

  /**
   * Opens or creates the file. `content` is undefined when there was no usable one; a damaged file is moved aside. Errors:
   * `JOURNAL_READ`, `JOURNAL_WRITE`, `STORE_INVALID`.
   */
  static async open(init: { path: string; log: Log; nowMs: () => number; whole: () => WholeInventory }): Promise<{
    file: InventoryLog;
    content: Extract<InventoryContent, { ok: true }> | undefined;
    movedAside: string | null;
  }> {
    const { path, log, whole } = init;
    const bytes = await RecordFile.read(path);
    const content = bytes === undefined || bytes.length === 0 ? undefined : playInventory(bytes);
    let movedAside: string | null = null;
    if (content?.ok === false) {
      movedAside = `${path}.corrupt-${init.nowMs()}`;
      await rename(path, movedAside);
      const { problem } = content;
      log.error({ file: path, problem, movedAside }, 'the inventory on disk is damaged and was moved aside');
    }
    const usable = content?.ok === true ? content : undefined;
    const length = usable?.validBytes ?? 0;
    const file = await RecordFile.open({ path, length });
    if (usable !== undefined && bytes !== undefined && length < bytes.length) {
      log.warn({ file: path, bytes: bytes.length - length }, 'dropped the incomplete last record of the inventory');
    }
    const wholeBytes = usable?.wholeBytes ?? 0;
    return { file: new InventoryLog({ file, log, whole, wholeBytes }), content: usable, movedAside };
  }

  /** Appends the changes in one write. Errors: `JOURNAL_WRITE`; then none of them is in the file. */
  append(changes: readonly WrittenChange[]): Promise<void> {
    return this.#queue.run(async () => {
      if (this.#file.mustBeReplaced) return this.#replace();
      const bytes = encodeLine({ kind: 'changes', changes });
      await this.#file.append(bytes);
      this.#appendedMeanwhile?.push(bytes);
      const changesBytes = this.#file.length - this.#wholeBytes;
      const limit = Math.max(minChangesBytes, this.#wholeBytes, this.#retryAboveBytes);
      if (!this.#isCompacting && changesBytes > limit) this.#compact();
    });
  }

  /** Rewrites the whole file atomically. Errors: `JOURNAL_WRITE`. */
  replace(): Promise<void> {
    return this.#queue.run(() => this.#replace());
  }

  async close(): Promise<void> {
    await this.#queue.idle();
    await this.#compaction;
    await this.#queue.run(() => this.#file.close());
  }

  async #replace(): Promise<void> {
    // A compaction under way would bring back what this replaces.
    this.#appendedMeanwhile = null;
    await this.#file.replace(wholeInventory(this.#whole()));
    this.#wholeBytes = this.#file.length;
    this.#retryAboveBytes = 0;
  }

  #compact(): void {
    const meanwhile: Buffer[] = (this.#appendedMeanwhile = []);
    const lines = wholeInventory(this.#whole());
    this.#isCompacting = true;
    this.#compaction = this.#writeCompacted(lines, meanwhile)
      .catch((error: unknown) => {
        if (this.#appendedMeanwhile === meanwhile) this.#appendedMeanwhile = null;
        this.#retryAboveBytes = this.#file.length - this.#wholeBytes + minChangesBytes;
        this.#log.warn({ error: describeError(error) }, 'could not compact inventory.log');
      })
      .finally(() => (this.#isCompacting = false));
  }

  async #writeCompacted(lines: Iterable<Buffer>, meanwhile: readonly Buffer[]): Promise<void> {
    const replacement: Replacement = await this.#file.begin();
    let wholeBytes = 0;
    await replacement.write(counted(lines, (bytes) => (wholeBytes += bytes)));
    await this.#queue.run(async () => {
      if (this.#appendedMeanwhile !== meanwhile) return replacement.abandon();
      await replacement.write(meanwhile);
      await replacement.finish();
      this.#appendedMeanwhile = null;
      this.#wholeBytes = wholeBytes;
      this.#retryAboveBytes = 0;
    });
  }
}

function* counted(pieces: Iterable<Buffer>, count: (bytes: number) => void): Generator<Buffer> {
  for (const piece of pieces) {
    count(piece.length);
    yield piece;
  }
}
