import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';

/** In the order in which they run. `timeoutMs` is for one file; `concurrency` is files at a time. */
export const suites = {
  unit: { concurrency: 2, timeoutMs: 60_000, needsLab: false },
  contract: { concurrency: 2, timeoutMs: 180_000, needsLab: true },
  integration: { concurrency: 2, timeoutMs: 300_000, needsLab: true },
  e2e: { concurrency: 1, timeoutMs: 900_000, needsLab: true },
} as const;
export type SuiteName = keyof typeof suites;

export type SuiteResult = {
  readonly suite: SuiteName;
  readonly files: number;
  readonly passed: number;
  /** `file: name of the test`; a skipped test and a file without a test are failures. */
  readonly failures: readonly string[];
  readonly durationMs: number;
};

/** The compiled test files of a suite, sorted. `directory` is dist/test. */
export function findTestFiles(directory: string, suite: SuiteName, filter: RegExp | null): string[] {
  const suiteDirectory = path.join(directory, suite);
  if (!existsSync(suiteDirectory)) return [];
  return readdirSync(suiteDirectory, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.js'))
    .map((name) => path.join(suiteDirectory, name))
    .filter((file) => filter === null || filter.test(path.relative(directory, file)))
    .sort();
}

/** Runs each file in a process of its own; the report goes to stdout as it comes. Aborting ends those processes. */
export async function runSuite(suite: SuiteName, files: readonly string[], signal: AbortSignal): Promise<SuiteResult> {
  const { concurrency, timeoutMs } = suites[suite];
  const startedAt = performance.now();
  let passed = 0;
  const failures: string[] = [];
  const stream = run({ files: [...files], concurrency, timeout: timeoutMs, signal });
  stream.on('test:pass', (event) => {
    if (event.details.type === 'suite') return;
    const isFile = files.includes(event.name);
    const isSkipped = event.skip !== undefined || event.todo !== undefined;
    if (isFile) failures.push(`${shortName(event.name)}: the file has no test`);
    else if (isSkipped) failures.push(`${shortName(event.file)}: skipped: ${event.name}`);
    else passed++;
  });
  stream.on('test:fail', (event) => {
    if (event.details.type !== 'suite') failures.push(failureText(event.file, event.name, files.includes(event.name)));
  });
  const text = stream.compose<Readable>(withoutTotals).compose<Readable>(new spec());
  for await (const chunk of text) process.stdout.write(String(chunk));
  return { suite, files: files.length, passed, failures, durationMs: performance.now() - startedAt };
}

/** Node's totals count files of one suite only; the runner prints one summary of all. */
async function* withoutTotals(source: AsyncIterable<TestEvent>): AsyncIterable<TestEvent> {
  for await (const event of source) {
    if (event.type !== 'test:diagnostic' || event.data.nesting > 0) yield event;
  }
}

type TestEvent = { readonly type: string; readonly data: { readonly nesting: number } };

/** A failure of the file itself has its path as name. */
function failureText(file: string | undefined, name: string, isFile: boolean): string {
  if (!isFile) return `${shortName(file)}: ${name}`;
  return `${shortName(name)}: the file failed outside its tests, or took too long`;
}

function shortName(file: string | undefined): string {
  return file === undefined ? 'unknown file' : path.basename(file);
}
