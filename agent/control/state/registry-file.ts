import { createHash } from 'node:crypto';
import { constants, open } from 'node:fs/promises';
import { z } from 'zod';
import { CulvertError, describeError } from '../../../shared/errors.js';
import { hintForWrite } from '../../../shared/write-hint.js';
import { StateFile } from './state-file.js';

/** Sealed, as received, with the signed root and its pages. Their proof is checked again when they are loaded. */
export type StoredRegistry = {
  readonly entries: readonly StoredEntry[];
  /** False until a complete registry was received once. Only then is an empty registry known to be empty. */
  readonly isComplete: boolean;
};

type StoredEntry = { readonly key: string; readonly sealed: Uint8Array };

/** What {@link RegistryFile.save} writes. */
export interface RegistrySource {
  readonly stored: StoredRegistry;
  readonly isComplete: boolean;
  /** What changed since the previous call; null: removed. */
  takeUnsaved(): ReadonlyMap<string, Uint8Array | null>;
}

const headerSchema = z.object({
  format: z.literal('culvert-registry'),
  version: z.literal(1),
  /** True: the block has every entry. False: it has what changed since the block before. */
  isWhole: z.boolean(),
  isComplete: z.boolean(),
  /** Length of what follows the header. */
  bytes: z.int().min(0),
  /** Of the two flags above and of what follows the header. */
  sha256: z.string().length(64),
});
type Header = z.infer<typeof headerSchema>;
const newline = 10;
/** Changes are appended until they reach this size, or this share of the whole, whichever is larger. */
const minAppendedBytes = 1024 * 1024;
const appendedShare = 1 / 4;

/**
 * The registry on disk, in blocks: first every entry, then changes, so that one changed workload among tens of
 * thousands does not rewrite all of them. A block is a JSON header, then for each entry a line with its key and length,
 * followed by its bytes; `-` instead of a length means that the entry was removed. Entries are not JSON, because tens
 * of thousands of entries in one text would take several times their size in memory to write and to read.
 *
 * If the first block is damaged, the file is. A later damaged block was being written when the agent or its host
 * stopped: it and everything after it are ignored, and NATS delivers their content like any other change.
 */
export class RegistryFile extends StateFile<StoredRegistry> {
  /** Null: the next write is a complete one, because the state of the file is unknown or a write failed. */
  #written: { readonly whole: number; readonly appended: number; readonly isComplete: boolean } | null = null;
  #saving: Promise<void> = Promise.resolve();

  constructor({ path }: { readonly path: string }) {
    super({ path, encode, decode });
  }

  /** Writes what the source has to the file. Rejects with CulvertError `STATE_WRITE`. */
  save(source: RegistrySource): Promise<void> {
    const saving = this.#saving.then(() => this.#save(source));
    this.#saving = saving.catch(() => undefined);
    return saving;
  }

  async #save(source: RegistrySource): Promise<void> {
    const before = this.#written;
    this.#written = null;
    const { isComplete } = source;
    const changes = [...source.takeUnsaved()].map(([key, sealed]) => ({ key, sealed }));
    if (before !== null) {
      const block = encodeBlock({ entries: changes, isComplete, isWhole: false });
      const appended = before.appended + block.length;
      if (appended <= Math.max(minAppendedBytes, before.whole * appendedShare)) {
        const isSame = changes.length === 0 && isComplete === before.isComplete;
        if (isSame || (await appendTo(this.path, block))) {
          this.#written = { whole: before.whole, appended, isComplete };
          return;
        }
      }
    }
    const { stored } = source;
    await this.write(stored);
    const whole = stored.entries.reduce((sum, { sealed }) => sum + sealed.length, 0);
    this.#written = { whole, appended: 0, isComplete };
  }
}

/** False: the file is gone. It is never created: changes are useless without the entries that they change. */
async function appendTo(path: string, block: Uint8Array): Promise<boolean> {
  try {
    const handle = await open(path, constants.O_WRONLY | constants.O_APPEND);
    try {
      await handle.writeFile(block);
      await handle.datasync();
    } finally {
      await handle.close();
    }
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return false;
    throw new CulvertError({
      code: 'STATE_WRITE',
      message: `cannot write ${path}: ${describeError(cause)}`,
      hint: hintForWrite(cause),
      cause,
    });
  }
}

function encode({ entries, isComplete }: StoredRegistry): Uint8Array {
  return encodeBlock({ entries, isComplete, isWhole: true });
}

function encodeBlock(o: {
  readonly entries: readonly { readonly key: string; readonly sealed: Uint8Array | null }[];
  readonly isComplete: boolean;
  readonly isWhole: boolean;
}): Buffer {
  const { entries, isComplete, isWhole } = o;
  const heads = entries.map(({ key, sealed }) => `${key} ${sealed?.length ?? '-'}\n`);
  let size = 0;
  for (const [at, { sealed }] of entries.entries()) {
    size += Buffer.byteLength(heads[at] ?? '') + (sealed === null ? 0 : sealed.length + 1);
  }
  const headerLength = headerOf({ isWhole, isComplete, bytes: size, sha256: '0'.repeat(64) }).length;
  const block = Buffer.allocUnsafe(headerLength + size);
  let end = headerLength;
  for (const [at, { sealed }] of entries.entries()) {
    end += block.write(heads[at] ?? '', end);
    if (sealed === null) continue;
    block.set(sealed, end);
    end += sealed.length;
    block[end++] = newline;
  }
  const sha256 = hashOf({ isWhole, isComplete }, block.subarray(headerLength));
  block.write(headerOf({ isWhole, isComplete, bytes: size, sha256 }), 0);
  return block;
}

/** Entries are views of the file's bytes, so they take no extra memory. */
function decode(file: Buffer): StoredRegistry {
  const entries = new Map<string, Uint8Array>();
  const first = blockAt(file, 0);
  if (!first.isWhole) throw new Error('the first block is missing');
  takeBlock(file, first, entries);
  let { end, isComplete } = first;
  while (end < file.length) {
    const block = blockIfWhole(file, end);
    if (block === undefined || block.isWhole) break;
    takeBlock(file, block, entries);
    ({ end, isComplete } = block);
  }
  return { entries: [...entries].map(([key, sealed]) => ({ key, sealed })), isComplete };
}

/** The entries are from `body` to `end`. */
type Block = Pick<Header, 'isWhole' | 'isComplete'> & { readonly body: number; readonly end: number };

function blockIfWhole(file: Buffer, start: number): Block | undefined {
  try {
    return blockAt(file, start);
  } catch {
    return undefined;
  }
}

/** Throws if the block is damaged. */
function blockAt(file: Buffer, start: number): Block {
  const body = file.indexOf(newline, start) + 1;
  if (body === 0) throw new Error(`the header at byte ${start} is missing`);
  const header = headerSchema.parse(JSON.parse(file.toString('utf8', start, body)));
  const end = body + header.bytes;
  if (end > file.length || hashOf(header, file.subarray(body, end)) !== header.sha256) {
    throw new Error(`the checksum at byte ${start} does not match`);
  }
  return { isWhole: header.isWhole, isComplete: header.isComplete, body, end };
}

function takeBlock(file: Buffer, { body, end }: Block, entries: Map<string, Uint8Array>): void {
  for (let at = body; at < end;) {
    const start = file.indexOf(newline, at) + 1;
    const [key = '', length] = file.toString('utf8', at, start - 1).split(' ');
    // The latest entry goes last, as it did when it was received.
    entries.delete(key);
    at = length === '-' ? start : start + lengthOf(length) + 1;
    if (start === 0 || key === '' || file[at - 1] !== newline) {
      throw new Error(`an entry is malformed before byte ${at}`);
    }
    if (length !== '-') entries.set(key, file.subarray(start, at - 1));
  }
}

/** Not below zero: the next entry would be one that was read already, without end. */
function lengthOf(text: string | undefined): number {
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : Number.NaN;
}

function headerOf(header: Omit<Header, 'format' | 'version'>): string {
  return `${JSON.stringify({ format: 'culvert-registry', version: 1, ...header })}\n`;
}

function hashOf({ isWhole, isComplete }: Pick<Header, 'isWhole' | 'isComplete'>, body: Uint8Array): string {
  return createHash('sha256').update(`${isWhole} ${isComplete}\n`).update(body).digest('hex');
}
