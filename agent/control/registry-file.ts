import { createHash } from 'node:crypto';
import { z } from 'zod';
import { StateFile } from './state-file.js';

/** Sealed, as received: what proves them is checked again when they are loaded. The signed list is one of them. */
export type StoredRegistry = {
  readonly entries: readonly { readonly key: string; readonly sealed: Uint8Array }[];
  /** False until a whole registry was received once: then an empty one is known to be empty. */
  readonly isComplete: boolean;
};

const headerSchema = z.object({
  format: z.literal('culvert-registry'),
  version: z.literal(1),
  isComplete: z.boolean(),
  /** Of `isComplete` and all that follows. */
  sha256: z.string().length(64),
});
const newline = 10;

/**
 * The registry on disk: a header in JSON, then for each entry a line with its key and length, and its bytes. No JSON,
 * because tens of thousands of entries in one text would take several times their size to write and to read.
 */
export class RegistryFile extends StateFile<StoredRegistry> {
  constructor({ path }: { readonly path: string }) {
    super({ path, encode, decode });
  }
}

function encode({ entries, isComplete }: StoredRegistry): Uint8Array {
  const heads = entries.map(({ key, sealed }) => `${key} ${sealed.length}\n`);
  const headerLength = headerOf(isComplete, '0'.repeat(64)).length;
  let size = headerLength;
  for (const [at, { sealed }] of entries.entries()) size += Buffer.byteLength(heads[at] ?? '') + sealed.length + 1;
  const file = Buffer.allocUnsafe(size);
  let end = headerLength;
  for (const [at, { sealed }] of entries.entries()) {
    end += file.write(heads[at] ?? '', end);
    file.set(sealed, end);
    end += sealed.length;
    file[end++] = newline;
  }
  file.write(headerOf(isComplete, hashOf(isComplete, file.subarray(headerLength))), 0);
  return file;
}

/** Entries are views of the file's bytes, so that they take no more memory than it has. */
function decode(file: Buffer): StoredRegistry {
  let at = file.indexOf(newline) + 1;
  const header = headerSchema.parse(JSON.parse(file.toString('utf8', 0, at)));
  if (hashOf(header.isComplete, file.subarray(at)) !== header.sha256) throw new Error('the checksum does not match');
  const entries: { key: string; sealed: Uint8Array }[] = [];
  while (at < file.length) {
    const start = file.indexOf(newline, at) + 1;
    const head = file.toString('utf8', at, start);
    const space = head.indexOf(' ');
    const end = start + Number(head.slice(space + 1));
    if (start === 0 || space < 1 || file[end] !== newline) throw new Error(`an entry is malformed at byte ${at}`);
    entries.push({ key: head.slice(0, space), sealed: file.subarray(start, end) });
    at = end + 1;
  }
  return { entries, isComplete: header.isComplete };
}

function headerOf(isComplete: boolean, hash: string): string {
  return `${JSON.stringify({ format: 'culvert-registry', version: 1, isComplete, sha256: hash })}\n`;
}

function hashOf(isComplete: boolean, body: Uint8Array): string {
  return createHash('sha256').update(`${isComplete}\n`).update(body).digest('hex');
}
