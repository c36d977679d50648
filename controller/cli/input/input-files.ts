import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError } from '../../../shared/errors.js';
import { readNamedFile } from '../../../shared/named-file.js';
import type { Problem } from '../../resources/kinds/problem.js';
import type { CliIo } from '../cli-io.js';
import { usageError, type CliError } from '../exit-codes.js';
import { lazyYaml } from '../view/lazy-yaml.js';

/** The joined text of all input files, and the origin of each line. */
export type Input = {
  readonly text: string;
  /** Adds the file and its line number to a problem. */
  readonly locate: (problem: Problem) => Problem;
};

type Piece = { readonly name: string; readonly text: string };

/** More than the controller takes in one apply. */
const maxFileBytes = 64 * 1024 * 1024;
const extensions = ['.yaml', '.yml', '.json'];
/** Ends any document, and allows directives in the next file (YAML 1.2, 9.1.4). */
const separator = '\n...\n';

/**
 * Reads files, directories (their .yaml, .yml and .json files, sorted, without subdirectories) and `-` for the standard
 * input. Throws CliError (usage) for a file that is unreadable or not YAML.
 */
export async function readInput(paths: readonly string[], io: CliIo): Promise<Input> {
  const pieces: Piece[] = [];
  for (const path of new Set(paths)) {
    if (path === '-') pieces.push({ name: '<stdin>', text: decode('<stdin>', await readStdin(io)) });
    else for (const file of await filesAt(path)) pieces.push({ name: file, text: await readText(file) });
  }
  if (pieces.length > 1) rejectBrokenFiles(pieces);
  return joinPieces(pieces);
}

/** Checks each file alone: an unclosed quote would swallow the next file, and the error would name that one. */
function rejectBrokenFiles(pieces: readonly Piece[]): void {
  const { LineCounter, parseAllDocuments } = lazyYaml();
  for (const { name, text } of pieces) {
    const lineCounter = new LineCounter();
    for (const document of parseAllDocuments(text, { lineCounter, merge: true })) {
      const [error] = document.errors;
      if (error === undefined) continue;
      const { line } = lineCounter.linePos(error.pos[0]);
      const message = error.message.split(' at line ', 1)[0] ?? error.message;
      throw usageError(
        `${name}:${line}: is not valid YAML: ${message}`,
        'check the quotes, brackets and indentation near it',
      );
    }
  }
}

function joinPieces(pieces: readonly Piece[]): Input {
  const starts: { readonly name: string; readonly firstLine: number }[] = [];
  let line = 1;
  for (const { name, text } of pieces) {
    starts.push({ name, firstLine: line });
    line += (text + separator).split('\n').length - 1;
  }
  const locate = (problem: Problem): Problem => {
    const { line: at } = problem;
    const start = at === null ? undefined : starts.findLast(({ firstLine }) => firstLine <= at);
    if (start === undefined || at === null) return problem;
    return { ...problem, fileName: start.name, line: at - start.firstLine + 1 };
  };
  return { text: pieces.map(({ text }) => text).join(separator), locate };
}

async function filesAt(path: string): Promise<string[]> {
  const isDirectory = await readable(path, async () => (await stat(path)).isDirectory());
  if (!isDirectory) return [path];
  const entries = await readable(path, () => readdir(path, { withFileTypes: true }));
  const files = entries
    .filter((entry) => !entry.isDirectory() && extensions.some((extension) => entry.name.endsWith(extension)))
    .map(({ name }) => name)
    .sort();
  if (files.length > 0) return files.map((name) => join(path, name));
  throw usageError(`the directory ${path} has no file to apply`, `files must end in ${extensions.join(', ')}`);
}

async function readText(path: string): Promise<string> {
  const file = await readNamedFile(path, { maxBytes: maxFileBytes });
  if (file.isRead) return decode(path, file.bytes);
  if (file.isMissing) throw noFile(path, file.cause);
  throw usageError(`cannot read ${path}: ${file.problem}`, 'check the path after -f', file.cause);
}

async function readStdin(io: CliIo): Promise<Uint8Array> {
  const bytes = await io.readStdin(maxFileBytes).catch((cause: unknown) => {
    throw usageError(`cannot read the standard input: ${describeError(cause)}`, 'check where it comes from', cause);
  });
  if (bytes !== null) return bytes;
  throw usageError(`<stdin> has more than ${maxFileBytes} bytes`, 'split it');
}

function noFile(path: string, cause: unknown): CliError {
  return usageError(`there is no file ${path}`, 'check the path after -f', cause);
}

function decode(name: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw usageError(`${name} is not UTF-8 text`, 'save it as UTF-8', cause);
  }
}

async function readable<T>(path: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    throw cannotRead(path, cause as NodeJS.ErrnoException);
  }
}

function cannotRead(path: string, cause: NodeJS.ErrnoException): CliError {
  if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return noFile(path, cause);
  return usageError(`cannot read ${path} (${cause.code ?? cause.message})`, 'check its permissions', cause);
}
