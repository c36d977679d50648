import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { agentSettingsTable } from '../../agent/config/agent-settings.js';

export type TestSuite = {
  /** Below dist/test. */
  readonly directory: string;
  /** Of the directory's files; all when absent. */
  readonly files?: RegExp;
  /** Files at a time. */
  readonly concurrency: number;
  /** For one file. */
  readonly timeoutMs: number;
  readonly needsLab: boolean;
  /** Data-plane threads of every agent that is not told otherwise. */
  readonly agentWorkers?: number;
};

const endToEnd = { directory: 'e2e', concurrency: 1, timeoutMs: 900_000, needsLab: true };
/** What a connection is carried and judged by: where it could matter that other connections are in another thread. */
const dataPlaneFiles = /bulk|half-close|paths|rotation|agent-restart|live-changes|under-change|hostile/;

/** In the order in which they run. */
export const suites = {
  unit: { directory: 'unit', concurrency: 2, timeoutMs: 60_000, needsLab: false },
  contract: { directory: 'contract', concurrency: 2, timeoutMs: 180_000, needsLab: true },
  integration: { directory: 'integration', concurrency: 2, timeoutMs: 300_000, needsLab: true },
  e2e: { ...endToEnd, agentWorkers: 2 },
  'e2e-one-worker': { ...endToEnd, files: dataPlaneFiles, agentWorkers: 1 },
} as const satisfies Readonly<Record<string, TestSuite>>;
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
  const { directory: name, files }: TestSuite = suites[suite];
  const suiteDirectory = path.join(directory, name);
  if (!existsSync(suiteDirectory)) return [];
  return readdirSync(suiteDirectory, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.test.js') && (files === undefined || files.test(file)))
    .map((file) => path.join(suiteDirectory, file))
    .filter((file) => filter === null || filter.test(path.relative(directory, file)))
    .sort();
}

export type SuiteRun = {
  readonly suite: SuiteName;
  /** Paths of compiled test files. */
  readonly files: readonly string[];
  /** Data-plane threads of the agents, instead of what the suite says. */
  readonly agentWorkers?: number | undefined;
  /** Aborting ends the processes of the tests. */
  readonly signal: AbortSignal;
};

/** Runs each file in a process of its own; the report goes to stdout as it comes. */
export async function runSuite({ suite, files, agentWorkers, signal }: SuiteRun): Promise<SuiteResult> {
  const { concurrency, timeoutMs, agentWorkers: usual }: TestSuite = suites[suite];
  const workers = agentWorkers ?? usual;
  // The agents that a test starts inherit it from the process of the test.
  if (workers !== undefined) process.env[agentSettingsTable.workers.env] = String(workers);
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
