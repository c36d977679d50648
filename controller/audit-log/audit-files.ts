import { createReadStream } from 'node:fs';
import { open, readdir, rm, stat, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { chainStart, decodeLine, digest, type ChainHead } from './audit-entry.js';

const fileName = /^audit-(\d{12})\.log$/;

/** One file of the log. Its name has the number of its first line. */
export type AuditFile = { readonly path: string; readonly firstSeq: number; readonly bytes: number };

export function pathOf(directory: string, firstSeq: number): string {
  return join(directory, `audit-${String(firstSeq).padStart(12, '0')}.log`);
}

/** The files of the log, oldest first. */
export async function auditFiles(directory: string): Promise<AuditFile[]> {
  const names = (await readdir(directory)).filter((name) => fileName.test(name)).sort();
  return Promise.all(
    names.map(async (name) => {
      const path = join(directory, name);
      return { path, firstSeq: Number(fileName.exec(name)?.[1]), bytes: (await stat(path)).size };
    }),
  );
}

export async function removeFile({ path }: AuditFile): Promise<void> {
  await rm(path);
}

export type FileEnd = {
  /** The end of the last complete line. */
  readonly validBytes: number;
  /** What a crash left of a line behind it. */
  readonly tornBytes: number;
  /** Null: the file has no complete line. */
  readonly head: ChainHead | null;
  /** The time of the last line that can be read, in milliseconds since the epoch. */
  readonly lastAtMs: number | null;
};

/** What is read of the end of a file at first; more when no line in it can be read. */
const tailBytes = 64 * 1024;

/** Where the chain goes on behind a file, also behind lines that are damaged: these are for the verification to find. */
export async function readEnd({ path, firstSeq }: Pick<AuditFile, 'path' | 'firstSeq'>): Promise<FileEnd> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    if (size === 0) return { validBytes: 0, tornBytes: 0, head: null, lastAtMs: null };
    for (let length = tailBytes; length < size; length *= 8) {
      const end = endOf(await readAt(file, size - length, length), { start: size - length, firstSeq: null });
      if (end !== null) return end;
    }
    const whole = endOf(await readAt(file, 0, size), { start: 0, firstSeq });
    return whole ?? { validBytes: 0, tornBytes: size, head: null, lastAtMs: null };
  } finally {
    await file.close();
  }
}

async function readAt(file: FileHandle, position: number, length: number): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, position);
  return buffer.subarray(0, bytesRead);
}

/** `firstSeq`: the number of the first line; null: the bytes begin within a line. Null: they do not tell. */
function endOf(
  bytes: Buffer,
  { start, firstSeq }: { readonly start: number; readonly firstSeq: number | null },
): FileEnd | null {
  const from = firstSeq === null ? bytes.indexOf(0x0a) + 1 : 0;
  const to = bytes.lastIndexOf(0x0a);
  if (to < from) return null;
  const lines = bytes.toString('utf8', from, to).split('\n');
  const last = lines.at(-1) ?? '';
  const hash = decodedOrNull(last)?.hash ?? digest(last);
  const ends = { validBytes: start + to + 1, tornBytes: bytes.length - to - 1 };
  for (let at = lines.length - 1; at >= 0; at--) {
    const decoded = decodedOrNull(lines[at] ?? '');
    if (decoded === null) continue;
    const head = { seq: decoded.entry.seq + (lines.length - 1 - at), hash };
    return { ...ends, head, lastAtMs: Date.parse(decoded.entry.at) };
  }
  return firstSeq === null ? null : { ...ends, head: { seq: firstSeq + lines.length - 1, hash }, lastAtMs: null };
}

function decodedOrNull(text: string) {
  const decoded = decodeLine(text);
  return decoded.entry === null ? null : decoded;
}

/** Where the chain goes on behind several files. */
export async function chainEnd(files: readonly AuditFile[]): Promise<ChainHead> {
  for (const file of files.toReversed()) {
    const { head } = await readEnd(file);
    if (head !== null) return head;
  }
  return chainStart;
}

export type PlacedLine = {
  readonly text: string;
  readonly path: string;
  /** Where in the file the next line begins. */
  readonly end: number;
};

/** The complete lines of files, in pieces, so that other work has its turn in between. The first file from a byte on. */
export async function* linesOf(files: readonly AuditFile[], from = 0): AsyncGenerator<PlacedLine> {
  for (const [index, { path }] of files.entries()) {
    try {
      yield* linesOfFile(path, index === 0 ? from : 0);
    } catch (error) {
      // Its lines were too old, and were removed meanwhile.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}

async function* linesOfFile(path: string, from: number): AsyncGenerator<PlacedLine> {
  let end = from;
  let rest: Buffer[] = [];
  for await (const piece of createReadStream(path, { start: from }) as AsyncIterable<Buffer>) {
    rest.push(piece);
    if (!piece.includes(0x0a)) continue;
    const bytes = Buffer.concat(rest);
    let begin = 0;
    for (let at = bytes.indexOf(0x0a); at >= 0; at = bytes.indexOf(0x0a, begin)) {
      const text = bytes.toString('utf8', begin, at);
      end += at + 1 - begin;
      begin = at + 1;
      yield { text, path, end };
    }
    rest = [bytes.subarray(begin)];
  }
}
