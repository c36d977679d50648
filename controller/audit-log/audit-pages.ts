import { decodeLine } from './audit-entry.js';
import type { AuditLog, LineMark } from './audit-log.js';

const maxPageBytes = 1024 * 1024;
/** Readers that can be in the middle of the log without reading a file again from its begin. */
const maxMarks = 64;

export type AuditPage = {
  readonly lines: readonly string[];
  /** What to ask for next; null: these are the last. */
  readonly next: number | null;
};

/** Gives the lines of the log in pages. It remembers where pages ended, so that no file is read from its begin for each. */
export class AuditPages {
  readonly #auditLog: Pick<AuditLog, 'placedLines'>;
  /** By the number of the last line of a page. */
  readonly #marks = new Map<number, LineMark>();

  constructor({ auditLog }: { readonly auditLog: Pick<AuditLog, 'placedLines'> }) {
    this.#auditLog = auditLog;
  }

  /** The lines behind the one with this number. */
  async read(after: number): Promise<AuditPage> {
    const mark = this.#marks.get(after) ?? null;
    const lines: string[] = [];
    let bytes = 0;
    let seq = mark === null ? 0 : after;
    let end: LineMark | null = null;
    for await (const { text, ...place } of this.#auditLog.placedLines(after, mark)) {
      // A line that cannot be read has the place of the number that it had.
      const number = decodeLine(text).entry?.seq ?? seq + 1;
      if (number > after && end !== null && bytes + text.length > maxPageBytes) {
        this.#remember(seq, end);
        return { lines, next: seq };
      }
      seq = number;
      if (number <= after) continue;
      lines.push(text);
      bytes += text.length;
      end = place;
    }
    return { lines, next: null };
  }

  #remember(seq: number, mark: LineMark): void {
    this.#marks.delete(seq);
    this.#marks.set(seq, mark);
    const [oldest] = this.#marks.keys();
    if (this.#marks.size > maxMarks && oldest !== undefined) this.#marks.delete(oldest);
  }
}
