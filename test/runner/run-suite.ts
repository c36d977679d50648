import path from 'node:path';
import type { Readable } from 'node:stream';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { fileURLToPath } from 'node:url';
import { agentSettingsTable } from '../../agent/config/agent-settings.js';
import { patientMs } from '../lab/patience.js';
import { childrenCpu } from './children-cpu.js';
import { inOneLine, shortFailure } from './short-failure.js';
import type { FileGroup } from './file-groups.js';
import { suites, type SuiteName, type TestSuite } from './suites.js';

export type SuiteResult = {
  readonly suite: SuiteName;
  /** Version of Node. */
  readonly node: string;
  readonly files: number;
  readonly passed: number;
  /** `file: name of the test: what it threw`; a skipped test and a file without a test are failures. */
  readonly failures: readonly string[];
  readonly durationMs: number;
  /** CPU time of the processes of the files and of all that they started and waited for. */
  readonly cpuMs: number;
  /** The process of each file, that with the most CPU time first. Empty on Node 20.12, which does not report when it ends. */
  readonly fileTimes: readonly FileTime[];
};

/** `cpuMs` has what the file's process started and waited for, and is added to another file's when two end at once. */
export type FileTime = { readonly file: string; readonly durationMs: number; readonly cpuMs: number };

export type SuiteRun = {
  readonly suite: SuiteName;
  /** Compiled test files by process, in the order in which they start. */
  readonly groups: readonly FileGroup[];
  /** Data-plane threads of the agents, instead of what the suite says. */
  readonly agentWorkers?: number | undefined;
  /** How many times longer than usual a file may take. Default: 1. */
  readonly patience?: number;
  /** Aborting ends the processes of the tests. */
  readonly signal: AbortSignal;
};

/** Runs each group of files in a process of its own; the report goes to stdout as it comes. */
export async function runSuite({ suite, groups, agentWorkers, patience = 1, signal }: SuiteRun): Promise<SuiteResult> {
  const { concurrency, timeoutMs, agentWorkers: usual }: TestSuite = suites[suite];
  const workers = agentWorkers ?? usual;
  // The agents that a test starts inherit it from the process of the test.
  if (workers !== undefined) process.env[agentSettingsTable.workers.env] = String(workers);
  const startedAt = performance.now();
  let passed = 0;
  const failures: string[] = [];
  const entries = groups.map(({ entry }) => entry);
  // Of files that share a process, which must call node:test themselves. A process without any test is reported by Node.
  const withoutTest = new Set(groups.flatMap(({ files }) => (files.length > 1 ? files : [])));
  const times = new FileTimes(entries);
  const timeout = patientMs(timeoutMs * patience * Math.max(1, ...groups.map(({ files }) => files.length)));
  const stream = run({ files: entries, concurrency, timeout, signal });
  stream.on('test:dequeue', (data) => times.began(data));
  // Not later: CPU time is that of the process that has just ended.
  stream.on('test:complete', (data) => times.ended(data));
  stream.on('test:pass', (event) => {
    if (event.details.type === 'suite') return;
    // Node reports a process without a test as a test that has the path of its file as name.
    if (entries.includes(event.name)) {
      failures.push(`${shortName(event.name)}: the file has no test`);
      return;
    }
    withoutTest.delete(pathOf(event.file));
    const isSkipped = event.skip !== undefined || event.todo !== undefined;
    if (isSkipped) failures.push(`${shortName(event.file)}: skipped: ${event.name}`);
    else passed++;
  });
  stream.on('test:fail', (event) => {
    if (event.details.type === 'suite') {
      const { failureType } = event.details.error as { readonly failureType?: string };
      if (failureType !== 'subtestsFailed') failures.push(`${shortName(event.file)}: a hook of "${event.name}" failed`);
      return;
    }
    const isFile = entries.includes(event.name);
    const failed = isFile ? groups.find(({ entry }) => entry === event.name)?.files : [pathOf(event.file)];
    for (const file of failed ?? []) withoutTest.delete(file);
    failures.push(isFile ? fileFailure(event.name) : testFailure(event));
  });
  const text = stream
    .compose<Readable>((source: AsyncIterable<TestEvent>) => forReading(source))
    .compose<Readable>(new spec());
  for await (const chunk of text) process.stdout.write(String(chunk));
  if (!signal.aborted) failures.push(...[...withoutTest].map((file) => `${shortName(file)}: the file has no test`));
  const durationMs = performance.now() - startedAt;
  const files = groups.reduce((sum, group) => sum + group.files.length, 0);
  const node = process.versions.node;
  return { suite, node, files, passed, failures, durationMs, cpuMs: times.cpuMs(), fileTimes: times.sorted() };
}

type TestEvent = {
  readonly type: string;
  readonly data: { readonly nesting: number; readonly name?: string; readonly details?: { error?: unknown } };
};

/** Node's totals count files of one suite only; the runner prints one summary of all. */
async function* forReading(source: AsyncIterable<TestEvent>): AsyncIterable<TestEvent> {
  for await (const event of source) {
    if (event.type === 'test:fail') shorten(event.data.details?.error);
    if (event.type !== 'test:diagnostic' || event.data.nesting > 0) yield event;
  }
}

/** What a test threw is the cause of the error that node:test reports. */
function shorten(error: unknown): void {
  if (error instanceof Error) error.cause = shortFailure(error.cause);
}

const builtDirectory = path.resolve(import.meta.dirname, '..');

type NamedTest = { readonly nesting: number; readonly name: string };

class FileTimes {
  readonly #files: ReadonlySet<string>;
  readonly #startedAtMs = new Map<string, number>();
  readonly #times: FileTime[] = [];
  #cpuMs = 0;

  constructor(files: readonly string[]) {
    this.#files = new Set(files);
    childrenCpu.takeMs();
  }

  began({ nesting, name }: NamedTest): void {
    if (nesting === 0 && this.#files.has(name)) this.#startedAtMs.set(name, performance.now());
  }

  ended({ nesting, name }: NamedTest): void {
    const startedAtMs = nesting === 0 ? this.#startedAtMs.get(name) : undefined;
    if (startedAtMs === undefined) return;
    const cpuMs = childrenCpu.takeMs();
    this.#cpuMs += cpuMs;
    this.#times.push({ file: path.relative(builtDirectory, name), durationMs: performance.now() - startedAtMs, cpuMs });
  }

  /** Of all files, when the last has ended. */
  cpuMs(): number {
    return (this.#cpuMs += childrenCpu.takeMs());
  }

  sorted(): FileTime[] {
    return this.#times.sort((a, b) => b.cpuMs - a.cpuMs);
  }
}

/** A failure of the file itself has its path as name. */
function fileFailure(name: string): string {
  return `${shortName(name)}: the file failed outside its tests, or took too long`;
}

function testFailure(failed: { name: string; file?: string | undefined; details: { error: Error } }): string {
  return `${shortName(failed.file)}: ${failed.name}: ${inOneLine(failed.details.error.cause ?? failed.details.error)}`;
}

/** Node 20.12 reports a URL, later versions a path. */
function pathOf(file: string | undefined): string {
  return file?.startsWith('file:') === true ? fileURLToPath(file) : (file ?? '');
}

function shortName(file: string | undefined): string {
  return file === undefined ? 'unknown file' : path.basename(file);
}
