import { createReadStream } from 'node:fs';
import { readdir, readFile, rm, stat } from 'node:fs/promises';
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

/** Where the chain goes on behind a file, also behind lines that are damaged: these are for the verification to find. */
export async function readEnd({ path, firstSeq }: Pick<AuditFile, 'path' | 'firstSeq'>): Promise<FileEnd> {
  const bytes = await readFile(path);
  const validBytes = bytes.lastIndexOf(0x0a) + 1;
  const tornBytes = bytes.length - validBytes;
  if (validBytes === 0) return { validBytes, tornBytes, head: null, lastAtMs: null };
  const lines = bytes.toString('utf8', 0, validBytes - 1).split('\n');
  const last = lines.at(-1) ?? '';
  const hashOfLast = decodedOrNull(last)?.hash ?? digest(last);
  for (let at = lines.length - 1; at >= 0; at--) {
    const decoded = decodedOrNull(lines[at] ?? '');
    if (decoded === null) continue;
    const head = { seq: decoded.entry.seq + (lines.length - 1 - at), hash: hashOfLast };
    return { validBytes, tornBytes, head, lastAtMs: Date.parse(decoded.entry.at) };
  }
  return { validBytes, tornBytes, head: { seq: firstSeq + lines.length - 1, hash: hashOfLast }, lastAtMs: null };
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

/** The complete lines of files, in pieces, so that other work has its turn in between. */
export async function* linesOf(files: readonly AuditFile[]): AsyncGenerator<string> {
  for (const { path } of files) {
    let rest = '';
    for await (const piece of createReadStream(path, { encoding: 'utf8' }) as AsyncIterable<string>) {
      const lines = `${rest}${piece}`.split('\n');
      rest = lines.pop() ?? '';
      yield* lines;
    }
  }
}
