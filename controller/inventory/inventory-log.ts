import { rename } from 'node:fs/promises';
import { describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { SerialQueue } from '../../shared/serial-queue.js';
import { encodeLine } from '../records/record-line.js';
import { RecordFile, type Replacement } from '../records/record-file.js';
import { playInventory, wholeInventory, type InventoryContent, type WrittenChange } from './inventory-records.js';

/** The file is written again in full when its changes take more than this, and more than everything else in it. */
const minChangesBytes = 8 * 1024 * 1024;

export type WholeInventory = Parameters<typeof wholeInventory>[0];

/**
 * The inventory on disk, `inventory.log`: all that there was, and the changes since. What {@link append} has returned from
 * survives a crash at any point. Shortening it runs next to the appends, which never wait for it.
 */
export class InventoryLog {
  readonly #file: RecordFile;
  readonly #log: Log;
  /** Everything as of the last append that was given, that one included. */
  readonly #whole: () => WholeInventory;
  readonly #queue = new SerialQueue();
  #wholeBytes: number;
  /** While the file is being shortened: what was appended meanwhile. */
  #meanwhile: Buffer[] | null = null;
  #shortening: Promise<void> = Promise.resolve();

  private constructor(init: { file: RecordFile; log: Log; whole: () => WholeInventory; wholeBytes: number }) {
    this.#file = init.file;
    this.#log = init.log;
    this.#whole = init.whole;
    this.#wholeBytes = init.wholeBytes;
  }

  /**
   * Opens or creates it. `content` is undefined when there was none, or none that could be used: a damaged file is moved
   * aside. Errors: `JOURNAL_READ`, `JOURNAL_WRITE`, `STORE_INVALID`.
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

  /** Changes that share one write. Errors: `JOURNAL_WRITE`; none of them is in it then. */
  append(changes: readonly WrittenChange[]): Promise<void> {
    return this.#queue.run(async () => {
      if (this.#file.mustBeReplaced) return this.#replace();
      const bytes = encodeLine({ kind: 'changes', changes });
      await this.#file.append(bytes);
      this.#meanwhile?.push(bytes);
      const changesBytes = this.#file.length - this.#wholeBytes;
      if (this.#meanwhile === null && changesBytes > Math.max(minChangesBytes, this.#wholeBytes)) this.#shorten();
    });
  }

  /** Writes everything, atomically. Errors: `JOURNAL_WRITE`. */
  replace(): Promise<void> {
    return this.#queue.run(() => this.#replace());
  }

  async close(): Promise<void> {
    await this.#queue.idle();
    await this.#shortening;
    await this.#queue.run(() => this.#file.close());
  }

  async #replace(): Promise<void> {
    // A file that is being shortened would bring back what this one replaces.
    this.#meanwhile = null;
    await this.#file.replace(wholeInventory(this.#whole()));
    this.#wholeBytes = this.#file.length;
  }

  #shorten(): void {
    const meanwhile: Buffer[] = (this.#meanwhile = []);
    const lines = wholeInventory(this.#whole());
    this.#shortening = this.#writeShorter(lines, meanwhile).catch((error: unknown) => {
      if (this.#meanwhile === meanwhile) this.#meanwhile = null;
      this.#log.warn({ error: describeError(error) }, 'the inventory on disk could not be shortened');
    });
  }

  async #writeShorter(lines: Iterable<Buffer>, meanwhile: readonly Buffer[]): Promise<void> {
    const replacement: Replacement = await this.#file.begin();
    let wholeBytes = 0;
    await replacement.write(counted(lines, (bytes) => (wholeBytes += bytes)));
    await this.#queue.run(async () => {
      if (this.#meanwhile !== meanwhile) return replacement.abandon();
      await replacement.write(meanwhile);
      await replacement.finish();
      this.#meanwhile = null;
      this.#wholeBytes = wholeBytes;
    });
  }
}

function* counted(pieces: Iterable<Buffer>, count: (bytes: number) => void): Generator<Buffer> {
  for (const piece of pieces) {
    count(piece.length);
    yield piece;
  }
}
