import { open, type FileHandle } from 'node:fs/promises';

/** A file that a person named: its content, or why it cannot be read, to follow "cannot read PATH: ". */
export type NamedFile =
  | { readonly isRead: true; readonly bytes: Buffer }
  | { readonly isRead: false; readonly isMissing: boolean; readonly problem: string; readonly cause: unknown };

const problems: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  ENOTDIR: 'a part of the path is no directory',
  EISDIR: 'it is a directory',
  EACCES: 'no permission',
  EPERM: 'no permission',
  ELOOP: 'its symbolic links lead in a circle',
  ENAMETOOLONG: 'the path is too long',
  ENXIO: 'it is no file',
  EIO: 'the disk, or what is behind this file, fails',
};

/** Reads at most `maxBytes`, also of a device that has no end. */
export async function readNamedFile(path: string, { maxBytes }: { readonly maxBytes: number }): Promise<NamedFile> {
  try {
    const file = await open(path, 'r');
    try {
      const bytes = await readUpTo(piecesOf(file), maxBytes);
      if (bytes !== null) return { isRead: true, bytes };
      return { isRead: false, isMissing: false, problem: `it is larger than ${maxBytes} bytes`, cause: undefined };
    } finally {
      await file.close();
    }
  } catch (cause) {
    const { code = '', message } = cause as NodeJS.ErrnoException;
    const isMissing = code === 'ENOENT' || code === 'ENOTDIR';
    return { isRead: false, isMissing, problem: problems[code] ?? (code === '' ? message : code), cause };
  }
}

const pieceBytes = 256 * 1024;

async function* piecesOf(file: FileHandle): AsyncGenerator<Uint8Array> {
  for (;;) {
    const { buffer, bytesRead } = await file.read(Buffer.allocUnsafe(pieceBytes), 0, pieceBytes, null);
    if (bytesRead === 0) return;
    yield buffer.subarray(0, bytesRead);
  }
}

/** All of a stream; null when it has more bytes than that. Rejects with its error. */
export async function readUpTo(stream: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Buffer | null> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  for await (const piece of stream) {
    size += piece.length;
    if (size > maxBytes) return null;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}
