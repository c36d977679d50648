import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

/** Test files that one process runs, one after another. */
export type FileGroup = {
  /** What Node runs: the test file itself, or a file that imports those of the group. */
  readonly entry: string;
  readonly files: readonly string[];
};

/** A file that measures its process, or changes it for good, has a process of its own. */
const needsOwnProcess = /\bprlimit\b|\bgetHeapStatistics\b|\bprocess\.(?:chdir|memoryUsage|on|once)\b/;

/**
 * Starting Node, loading the product and compiling its functions takes longer than most tests. So up to `filesPerProcess` files
 * share a process, but for those that match `alone`. `entryDirectory` is where the entries are written; the caller removes it.
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
  const shared: string[] = [];
  for (const file of files) {
    if (alone.test(path.relative(builtDirectory, file)) || needsOwnProcess.test(readFileSync(file, 'utf8'))) {
      single.push({ entry: file, files: [file] });
    } else shared.push(file);
  }
  const suite = path.relative(builtDirectory, shared[0] ?? '').split(path.sep)[0];
  const groups = chunks(shared, filesPerProcess).map((part, index) =>
    writeGroup({ entry: path.join(entryDirectory, `${suite}-${index + 1}.mjs`), files: part, builtDirectory }),
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

/** Each file is a suite, so that its hooks run around its own tests only, and is loaded when the one before it has ended. */
function writeGroup({ entry, files, builtDirectory }: FileGroup & { readonly builtDirectory: string }): FileGroup {
  const named = files.map((file) => [path.relative(builtDirectory, file), pathToFileURL(file).href]);
  const code = `import { describe, test } from 'node:test';
for (const [name, url] of ${JSON.stringify(named, null, 2)}) {
  await describe(name, async () => {
    try {
      await import(url);
    } catch (error) {
      test(name + ' is loaded', () => {
        throw error;
      });
    }
  });
}
`;
  writeFileSync(entry, code);
  return { entry, files };
}
