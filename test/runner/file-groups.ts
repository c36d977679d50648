import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

/** Test files that one process runs, one after another. */
export type FileGroup = {
  /** What Node runs: the test file itself, or a file that imports those of the group. */
  readonly entry: string;
  readonly files: readonly string[];
};

const maxFilesInGroup = 12;
/**
 * A file whose hooks would run around the tests of others, or that changes or measures its process, has a process of its
 * own.
 */
const needsOwnProcess =
  /^(?:before|after|beforeEach|afterEach)\(|\bmock\.|\bprocess\.(?:env|chdir|memoryUsage|on|once)\b/m;

/**
 * Starting Node and loading the product takes longer than most unit tests. So files of one program share a process, up to
 * twelve. `entryDirectory` is where the entries are written; the caller removes it.
 */
export function groupFiles(files: readonly string[], builtDirectory: string, entryDirectory: string): FileGroup[] {
  const shared = new Map<string, string[]>();
  const alone: FileGroup[] = [];
  for (const file of files) {
    const [, program = ''] = path.relative(builtDirectory, file).split(path.sep);
    if (needsOwnProcess.test(readFileSync(file, 'utf8'))) alone.push({ entry: file, files: [file] });
    else shared.set(program, [...(shared.get(program) ?? []), file]);
  }
  const groups = [...shared].flatMap(([program, all]) =>
    chunks(all).map((part, index) => writeGroup(path.join(entryDirectory, `${program}-${index + 1}.mjs`), part)),
  );
  return [...groups, ...alone];
}

function chunks(files: readonly string[]): string[][] {
  const count = Math.ceil(files.length / maxFilesInGroup);
  // Neighbours test the same room and load the same modules.
  const size = Math.ceil(files.length / count);
  return Array.from({ length: count }, (_, index) => files.slice(index * size, (index + 1) * size));
}

function writeGroup(entry: string, files: readonly string[]): FileGroup {
  writeFileSync(entry, files.map((file) => `await import(${JSON.stringify(pathToFileURL(file).href)});\n`).join(''));
  return { entry, files };
}
