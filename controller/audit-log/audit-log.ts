import { CulvertError, describeError } from '../../shared/errors.js';
import type { Log } from '../../shared/log.js';
import { makeStateDirectory } from '../../shared/private-file.js';
import { hintForWrite } from '../../shared/write-hint.js';
import { RecordFile } from '../records/record-file.js';
import { encodeEntry, type AuditEntry, type AuditFacts, type ChainHead } from './audit-entry.js';
import {
  auditFiles,
  chainEnd,
  linesOf,
  pathOf,
  readEnd,
  removeFile,
  type AuditFile,
  type PlacedLine,
} from './audit-files.js';

export type AuditLimits = {
  /** Lines older than this are removed, a file at a time. */
  readonly retentionMs: number;
  /** Beyond it the oldest file is removed. */
  readonly maxBytes: number;
};

/** A file is this part of the whole, so that retention removes little at a time. */
const filesInAll = 16;
const minFileBytes = 64 * 1024;

/** Behind a line. */
export type LineMark = Pick<PlacedLine, 'path' | 'end'>;

type Waiting = {
  readonly facts: AuditFacts;
  readonly resolve: (entry: AuditEntry) => void;
  readonly reject: (error: unknown) => void;
};

/** Facts of a line that the log writes about itself. */
const itself = { user: 'system', source: 'local', target: null, result: 'noted', code: null, of: null } as const;

/**
 * The log of privileged and refused requests: files of lines that are chained by their hashes and only appended to. A line is
 * on disk when {@link append} has returned; lines that arrive during a write share the next one. Files of a state directory
 * are written by one process, the holder of its lock.
 *
 * Errors: `AUDIT_WRITE`: the line is not in the log, and will not be after a restart.
 */
export class AuditLog {
  readonly #directory: string;
  readonly #limits: AuditLimits;
  readonly #log: Log;
  readonly #nowMs: () => number;
  #file: RecordFile;
  #head: ChainHead;
  /** Bytes of a torn line that were cut off and are not noted yet. */
  #healedBytes: number;
  #waiting: Waiting[] = [];
  #writing: Promise<void> | null = null;
  #lost = 0;
  #isWritable = true;

  private constructor(init: {
    readonly directory: string;
    readonly limits: AuditLimits;
    readonly log: Log;
    readonly nowMs: () => number;
    readonly file: RecordFile;
    readonly head: ChainHead;
    readonly healedBytes: number;
  }) {
    this.#directory = init.directory;
    this.#limits = init.limits;
    this.#log = init.log;
    this.#nowMs = init.nowMs;
    this.#file = init.file;
    this.#head = init.head;
    this.#healedBytes = init.healedBytes;
  }

  /** Cuts off what a crash left of a last line. The next line that is written notes it. */
  static async open(init: {
    readonly directory: string;
    readonly limits: AuditLimits;
    readonly log: Log;
    readonly nowMs: () => number;
  }): Promise<AuditLog> {
    const { directory, log } = init;
    await makeStateDirectory(directory);
    const files = await auditFiles(directory);
    const newest = files.at(-1);
    const head = await chainEnd(files);
    const end = newest === undefined ? null : await readEnd(newest);
    const path = newest?.path ?? pathOf(directory, head.seq + 1);
    const file = await RecordFile.open({ path, length: end?.validBytes ?? 0 });
    const healedBytes = end?.tornBytes ?? 0;
    if (healedBytes > 0) log.warn({ bytes: healedBytes }, 'cut off the incomplete last line of the audit log');
    return new AuditLog({ ...init, file, head, healedBytes });
  }

  /** The last line that is on disk. */
  get head(): ChainHead {
    return this.#head;
  }

  /** Whether the last write succeeded. */
  get isWritable(): boolean {
    return this.#isWritable;
  }

  /** Lines that could not be written, since the start. */
  get lost(): number {
    return this.#lost;
  }

  /** Resolves when the line is on disk. */
  append(facts: AuditFacts): Promise<AuditEntry> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ facts, resolve, reject });
      this.#writing ??= this.#write();
    });
  }

  /** The lines from one number on, as they are on disk. Never a part of a line. */
  async *lines(afterSeq = 0): AsyncGenerator<string> {
    for await (const { text } of this.placedLines(afterSeq)) yield text;
  }

  /** The same, with their places. `mark`: where a line ended; those behind it are read, without any before. */
  async *placedLines(afterSeq = 0, mark: LineMark | null = null): AsyncGenerator<PlacedLine> {
    await this.#writing;
    const files = await auditFiles(this.#directory);
    const marked = files.findIndex(({ path, bytes }) => path === mark?.path && bytes >= mark.end);
    if (mark !== null && marked >= 0) return yield* linesOf(files.slice(marked), mark.end);
    // A file ends where the next one begins.
    const first = files.findLastIndex(({ firstSeq }) => firstSeq <= afterSeq + 1);
    yield* linesOf(files.slice(Math.max(0, first)));
  }

  /** Removes files that are too old, or too much, and notes in the log up to where. */
  async shorten(): Promise<void> {
    const files = await auditFiles(this.#directory);
    let bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    const gone: AuditFile[] = [];
    for (const file of files.slice(0, -1)) {
      const { lastAtMs } = bytes > this.#limits.maxBytes ? { lastAtMs: null } : await readEnd(file);
      const isOld = lastAtMs !== null && lastAtMs < this.#nowMs() - this.#limits.retentionMs;
      if (bytes <= this.#limits.maxBytes && !isOld) break;
      gone.push(file);
      bytes -= file.bytes;
    }
    const last = gone.at(-1);
    if (last === undefined) return;
    const { seq: through, hash } = await chainEnd([last]);
    // Written first: a log that is shortened without this line was shortened by another hand.
    await this.append({ ...itself, action: 'audit-log.shortened', detail: { through, hash } });
    for (const file of gone) await removeFile(file);
    this.#log.info({ through }, 'removed the oldest lines of the audit log');
  }

  /** Waits for lines that are being written. */
  async close(): Promise<void> {
    await this.#writing;
    await this.#file.close();
  }

  async #write(): Promise<void> {
    // What arrives in the same turn shares the write.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      await this.#writeBatch(batch);
    }
    this.#writing = null;
  }

  async #writeBatch(batch: readonly Waiting[]): Promise<void> {
    const at = new Date(this.#nowMs()).toISOString();
    let head = this.#head;
    const lines: string[] = [];
    const chain = (facts: AuditFacts): AuditEntry => {
      const entry: AuditEntry = { seq: head.seq + 1, at, ...facts, prev: head.hash };
      const { text, hash } = encodeEntry(entry);
      lines.push(`${text}\n`);
      head = { seq: entry.seq, hash };
      return entry;
    };
    const bytes = this.#healedBytes;
    if (bytes > 0) chain({ ...itself, action: 'audit-log.healed', detail: { bytes } });
    const entries = batch.map(({ facts }) => chain(facts));
    try {
      await this.#appendBytes(Buffer.from(lines.join('')));
      this.#isWritable = true;
    } catch (cause) {
      this.#isWritable = false;
      this.#lost += batch.length;
      for (const { reject } of batch) reject(notWritten(cause));
      return;
    }
    this.#head = head;
    this.#healedBytes = 0;
    for (const [index, { resolve }] of batch.entries()) {
      const entry = entries[index];
      if (entry !== undefined) resolve(entry);
    }
  }

  async #appendBytes(bytes: Buffer): Promise<void> {
    const { path, length } = this.#file;
    if (this.#file.mustBeReplaced) {
      // A failed write could not be undone then: now it is, also in a file that is full, or nothing is written.
      await this.#continueIn(await RecordFile.open({ path, length }));
    }
    const maxBytes = Math.max(minFileBytes, this.#limits.maxBytes / filesInAll);
    if (length > 0 && length + bytes.length > maxBytes) {
      const next = pathOf(this.#directory, this.#head.seq + 1);
      await this.#continueIn(await RecordFile.open({ path: next, length: 0 }));
    }
    await this.#file.append(bytes);
  }

  async #continueIn(file: RecordFile): Promise<void> {
    const before = this.#file;
    this.#file = file;
    await before.close();
  }
}

function notWritten(cause: unknown): CulvertError {
  const origin = cause instanceof CulvertError ? cause.cause : cause;
  return new CulvertError({
    code: 'AUDIT_WRITE',
    message: `the audit log cannot be written, so nothing was done: ${describeError(origin)}`,
    hint: hintForWrite(origin),
    cause,
  });
}
