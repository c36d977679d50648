import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { secondsOf } from './file-seconds.js';

/** Test files that one process runs, one after another. */
export type FileGroup = {
  /** What Node runs: the test file itself, or a file that imports those of the group. */
  readonly entry: string;
  readonly files: readonly string[];
};

/** A file that measures its process, or changes it for good (a thread has one reactor and its blocks), shares no process. */
const needsOwnProcess =
  /\bprlimit\b|\bgetHeapStatistics\b|\bmonitorEventLoopDelay\b|\bReactor\.ofThread\b|\bWaitingBlock\.keepIn\b|\bprocess\.(?:chdir|memoryUsage|on|once)\b/;

/** With a third of the time that files of one process may take together, a file has a process of its own. */
const aloneShare = 1 / 3;

/**
 * Starting Node, loading the product and compiling its functions takes longer than most tests. So up to `filesPerProcess` files
 * share a process, if they do not take more than `secondsPerProcess` together: what runs at the end of a suite should be short.
 * The groups that take longest come first. `entryDirectory` is where the entries are written; the caller removes it.
 */
export function groupFiles(init: {
  readonly files: readonly string[];
  readonly filesPerProcess: number;
  readonly secondsPerProcess: number;
  readonly builtDirectory: string;
  readonly entryDirectory: string;
}): FileGroup[] {
  const { files, filesPerProcess, secondsPerProcess, builtDirectory, entryDirectory } = init;
  const seconds = (file: string): number => secondsOf(file, builtDirectory);
  const single: FileGroup[] = [];
  const shared: string[] = [];
  for (const file of files) {
    if (seconds(file) >= secondsPerProcess * aloneShare || needsOwnProcess.test(readFileSync(file, 'utf8'))) {
      single.push({ entry: file, files: [file] });
    } else shared.push(file);
  }
  const suite = path.relative(builtDirectory, shared[0] ?? '').split(path.sep)[0];
  // Neighbours test the same room and load the same modules.
  const groups = chunks(shared.sort(), { filesPerProcess, secondsPerProcess, seconds }).map((part, index) =>
    writeGroup({ entry: path.join(entryDirectory, `${suite}-${index + 1}.mjs`), files: part, builtDirectory }),
  );
  const secondsOfGroup = (group: FileGroup): number => group.files.reduce((sum, file) => sum + seconds(file), 0);
  return [...single, ...groups].sort((a, b) => secondsOfGroup(b) - secondsOfGroup(a));
}

function chunks(
  files: readonly string[],
  most: {
    readonly filesPerProcess: number;
    readonly secondsPerProcess: number;
    readonly seconds: (file: string) => number;
  },
): string[][] {
  const size = Math.ceil(files.length / Math.ceil(files.length / most.filesPerProcess));
  const parts: string[][] = [];
  let left = 0;
  for (const file of files) {
    const part = parts.at(-1);
    left -= most.seconds(file);
    if (part !== undefined && part.length < size && left >= 0) part.push(file);
    else {
      parts.push([file]);
      left = most.secondsPerProcess - most.seconds(file);
    }
  }
  return parts;
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
