import { open, rm, type FileHandle } from 'node:fs/promises';
import { describeError } from '../../../shared/errors.js';
import type { CliIo } from '../cli-io.js';
import { CliError } from '../exit-codes.js';

/** What `--out` of a command that makes a secret says. */
export const outHelp = 'write it to this new file, which only its owner can read (mode 0600), instead of printing it';

/** Taken on the disk before a secret is made; more than any of them needs. */
const reservedBytes = 64 * 1024;

/** A secret, and how to make it worthless. */
export type MadeSecret<T> = {
  readonly text: string;
  readonly result: T;
  readonly revoke: () => Promise<unknown>;
  /** The command that does it, for people. */
  readonly revokeCommand: string;
};

/**
 * Makes a secret and writes it to the new file `path`, or prints it when that is undefined. The room for it is on disk before
 * the secret is made, and when it cannot be written all the same, it is revoked: none is left that no one has. Errors: those of
 * `make`, `USAGE` when the file exists or cannot be made, and `OUTPUT_WRITE` when the disk fails; then no file is left.
 */
export async function writeSecret<T>(
  io: CliIo,
  path: string | undefined,
  make: () => Promise<MadeSecret<T>>,
): Promise<T> {
  if (path === undefined) {
    const { text, result } = await make();
    io.print(text);
    return result;
  }
  const file = await newFile(path);
  let made: MadeSecret<T> | undefined;
  try {
    await reserve(file, path);
    made = await make();
    await replaceContent(file, `${made.text}\n`);
  } catch (cause) {
    await file.close().catch(() => undefined);
    await rm(path, { force: true }).catch(() => undefined);
    throw made === undefined ? cause : await withdrawn(made, path, cause);
  }
  // What counts is on disk; a close that fails takes nothing away.
  await file.close().catch(() => undefined);
  io.printError(`written to ${path}, readable by its owner only`);
  return made.result;
}

function newFile(path: string): Promise<FileHandle> {
  return open(path, 'wx', 0o600).catch((cause: unknown) => {
    const { code, message } = cause as NodeJS.ErrnoException;
    const exists = code === 'EEXIST';
    throw new CliError({
      exit: 'usage',
      code: 'USAGE',
      message: exists ? `the file ${path} exists` : `cannot write ${path} (${code ?? message})`,
      hint: exists ? 'name a new file after --out, or remove this one' : 'check the path after --out',
      cause,
    });
  });
}

async function reserve(file: FileHandle, path: string): Promise<void> {
  try {
    await file.write('\n'.repeat(reservedBytes), 0);
    await file.sync();
  } catch (cause) {
    throw cannotWrite(`cannot write ${path}: ${describeError(cause)}; no credential was made`, cause);
  }
}

/** Over what was reserved, which a file system that writes in place does not have to find room for. */
async function replaceContent(file: FileHandle, text: string): Promise<void> {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length;) {
    done += (await file.write(bytes, done, bytes.length - done, done)).bytesWritten;
  }
  await file.truncate(bytes.length);
  await file.sync();
}

async function withdrawn<T>({ revoke, revokeCommand }: MadeSecret<T>, path: string, cause: unknown): Promise<CliError> {
  const problem = `cannot write ${path}: ${describeError(cause)}`;
  try {
    await revoke();
  } catch (error) {
    const message = `${problem}; the credential that was made for it is still valid: ${describeError(error)}`;
    return cannotWrite(message, cause, `revoke it: ${revokeCommand}`);
  }
  return cannotWrite(`${problem}; the credential that was made for it is revoked`, cause);
}

function cannotWrite(
  message: string,
  cause: unknown,
  hint = 'free space there, or name a file on another disk',
): CliError {
  return new CliError({ exit: 'failed', code: 'OUTPUT_WRITE', message, hint, cause });
}
