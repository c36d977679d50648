import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

/** Test files that one process runs, one after another. */
export type FileGroup = {
  /** What Node runs: the test file itself, or a file that imports those of the group. */
  readonly entry: string;
  readonly files: readonly string[];
};

/**
 * A file whose hooks would run around the tests of others, or that changes or measures its process, has a process of its
 * own.
 */
const needsOwnProcess =
  /^(?:before|after|beforeEach|afterEach)\(|\bmock\.|\bprlimit\b|\bprocess\.(?:env|chdir|memoryUsage|on|once)\b/m;

/**
 * Starting Node and loading the product takes longer than most tests. So files of one program share a process, up to
 * `filesPerProcess`, but for those that match `alone`. `entryDirectory` is where the entries are written; the caller removes it.
 */
export function groupFiles(init: {
  readonly files: readonly string[];
  readonly filesPerProcess: number;
  readonly alone: RegExp;
  readonly builtDirectory: string;
  readonly entryDirectory: string;
}): FileGroup[] {
  const { files, filesPerProcess, alone, builtDirectory, entryDirectory } = init;
  const single: FileGroup[] = [];
  const shared = new Map<string, string[]>();
  for (const file of files) {
    const [suite = '', program = ''] = path.relative(builtDirectory, file).split(path.sep);
    const name = `${suite}-${program}`;
    if (alone.test(path.relative(builtDirectory, file)) || needsOwnProcess.test(readFileSync(file, 'utf8'))) {
      single.push({ entry: file, files: [file] });
    } else shared.set(name, [...(shared.get(name) ?? []), file]);
  }
  const groups = [...shared].flatMap(([name, all]) =>
    chunks(all, filesPerProcess).map((part, index) =>
      writeGroup(path.join(entryDirectory, `${name}-${index + 1}.mjs`), part),
    ),
  );
  // The slowest begin first.
  const slowest = single.filter(({ entry }) => alone.test(path.relative(builtDirectory, entry)));
  return [...slowest, ...groups, ...single.filter((each) => !slowest.includes(each))];
}

function chunks(files: readonly string[], most: number): string[][] {
  const count = Math.ceil(files.length / most);
  // Neighbours test the same room and load the same modules.
  const size = Math.ceil(files.length / count);
  return Array.from({ length: count }, (_, index) => files.slice(index * size, (index + 1) * size));
}

function writeGroup(entry: string, files: readonly string[]): FileGroup {
  writeFileSync(entry, files.map((file) => `await import(${JSON.stringify(pathToFileURL(file).href)});\n`).join(''));
  return { entry, files };
}
