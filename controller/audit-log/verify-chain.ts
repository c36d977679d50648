import { chainStart, decodeLine, type AuditEntry, type ChainHead } from './audit-entry.js';

export type BrokenLine = {
  /** Counted from 1 among the lines that were verified. */
  readonly line: number;
  /** As far as it can be read. */
  readonly seq: number | null;
  readonly problem: string;
};

export type ChainVerdict = {
  readonly lines: number;
  /** Null: there is no line. */
  readonly first: number | null;
  readonly head: ChainHead;
  /** Lines up to this one were removed, by the retention of the log; 0: none. */
  readonly shortenedTo: number;
  readonly broken: BrokenLine | null;
};

/** Verifies lines one after the other: each one's hash, its number, and that it follows the one before. */
export class ChainVerifier {
  #lines = 0;
  #first: AuditEntry | null = null;
  #head: ChainHead = chainStart;
  #broken: BrokenLine | null = null;
  /** By number: the hash of the last of the lines that were removed. */
  readonly #removed = new Map<number, string>();
  readonly #expected: ChainHead | null;

  /** `expected`: the last line of an earlier verification. It must still be there, or have been removed by retention. */
  constructor({ expected = null }: { readonly expected?: ChainHead | null } = {}) {
    this.#expected = expected;
  }

  /** After a broken line nothing is verified any more. */
  add(text: string): void {
    if (this.#broken !== null) return;
    this.#lines++;
    const decoded = decodeLine(text);
    if (decoded.entry === null) return this.#break(null, decoded.problem);
    const { entry, hash } = decoded;
    if (this.#first === null) this.#first = entry;
    else if (entry.seq !== this.#head.seq + 1) {
      return this.#break(entry.seq, `line ${this.#head.seq + 1} is missing before it`);
    } else if (entry.prev !== this.#head.hash) {
      return this.#break(entry.seq, `it does not follow line ${this.#head.seq} as that is now`);
    }
    this.#head = { seq: entry.seq, hash };
    if (entry.seq === this.#expected?.seq && hash !== this.#expected.hash) {
      return this.#break(entry.seq, 'it is not the line that was there when it was verified before');
    }
    if (entry.action !== 'audit-log.shortened') return;
    const { through, hash: last } = entry.detail;
    if (typeof through === 'number' && typeof last === 'string') this.#removed.set(through, last);
  }

  get verdict(): ChainVerdict {
    const first = this.#first;
    const before = first === null ? 0 : first.seq - 1;
    const isWhole = first === null || this.#isRightBegin(first);
    const { seq: last } = this.#expected ?? this.#head;
    const isCut = this.#broken === null && last > this.#head.seq;
    const cut = {
      line: this.#lines,
      seq: this.#head.seq,
      problem: `line ${last} is no longer there: the end was cut off`,
    };
    const missing = { line: 1, seq: first?.seq ?? null, problem: `lines 1 to ${before} before it are missing` };
    return {
      lines: this.#lines,
      first: first?.seq ?? null,
      head: this.#head,
      shortenedTo: before,
      broken: !isWhole ? missing : isCut ? cut : this.#broken,
    };
  }

  /** The first line of all, or the one behind those that the log itself says were removed. */
  #isRightBegin({ seq, prev }: AuditEntry): boolean {
    if (seq === 1) return prev === chainStart.hash;
    // What follows a broken line was not read, and may say so.
    return this.#removed.get(seq - 1) === prev || this.#broken !== null;
  }

  #break(seq: number | null, problem: string): void {
    this.#broken = { line: this.#lines, seq, problem };
  }
}
