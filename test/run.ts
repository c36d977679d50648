import { setMaxListeners } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Argument, Command, InvalidArgumentError } from 'commander';
import { describeError } from '../shared/errors.js';
import { DeclaredPath } from './lab/declared-path.js';
import { requirementsOf } from './lab/declared-programs.js';
import { ensureRequirements } from './lab/install-requirements.js';
import { findLeaks, removeLeaks, takeInventory } from './lab/leak-check.js';
import { requireCommands } from './lab/requirements.js';
import { sweepStaleLabs } from './lab/teardown.js';
import { buildsVariable } from './support/program/built-once.js';
import { fewWorlds, worldsVariable } from './support/property-runs.js';
import { keepCompiled } from './runner/compile-cache.js';
import { lanesOf, runLane, type Lane, type LaneEnd, type LaneReport } from './runner/lanes.js';
import { requireFreshPrograms } from './runner/fresh-programs.js';
import { openScope } from './runner/leak-scope.js';
import { runSuite, type SuiteResult } from './runner/run-suite.js';
import { groupFiles, type FileGroup } from './runner/file-groups.js';
import { findTestFiles, suites, type SuiteName, type TestSuite } from './runner/suites.js';

/**
 * The test runner: `node dist/test/run.js [suite…] [--filter RE] [--agent-workers N] [--times] [--worlds SHARE] [--install]
 * [--other-node BINARY] [--second-node]`. It exits with 0 only if every test passed,
 * none was skipped, every suite had files and nothing was left behind on the machine.
 */
type RunOptions = {
  readonly filter?: string;
  readonly agentWorkers?: number;
  readonly times?: boolean;
  readonly worlds: number;
  readonly install?: boolean;
  readonly otherNode?: string;
  readonly secondNode?: boolean;
  readonly inside?: boolean;
};

const suiteNames = Object.keys(suites) as SuiteName[];

function isOptional(suite: SuiteName): boolean {
  const { isOptional: isLeftOut = false }: TestSuite = suites[suite];
  return isLeftOut;
}

/** Of this process: `node` of what it starts comes from its PATH. */
type SuitePlan = { readonly suite: SuiteName; readonly files: readonly string[] };

async function runTests(wanted: readonly SuiteName[], options: RunOptions): Promise<boolean> {
  process.env[worldsVariable] = String(options.worlds);
  const chosen = suiteNames.filter((suite) => (wanted.length === 0 ? !isOptional(suite) : wanted.includes(suite)));
  const filter = options.filter === undefined ? null : new RegExp(options.filter);
  const search = {
    filter,
    isSecondNode: options.secondNode ?? false,
    builtDirectory: import.meta.dirname,
    sourceDirectory: path.resolve(import.meta.dirname, '../../test'),
  };
  const plan = chosen.map((suite) => ({ suite, files: findTestFiles({ ...search, suite }) }));
  const problems = findEmpty(plan, filter);
  if (problems.length > 0) return report({ results: [], problems });
  const hasLabs = chosen.some((suite) => suites[suite].needsLab);
  if (hasLabs) await installPrograms(options.install ?? false);
  using _ = DeclaredPath.enter('tests');
  if (hasLabs) prepareLabs();

  const abort = new AbortController();
  // One listener for each process of tests.
  setMaxListeners(0, abort.signal);
  // Ctrl-C comes twice, from the terminal and from what started this: neither ends it before it has cleaned up.
  const stop = (): void => abort.abort();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop);
  // Not in the tests' own TMPDIR, which must be empty in the end.
  const entryDirectory = mkdtempSync(path.join(tmpdir(), 'culvert-groups-'));
  keepCompiled(entryDirectory);
  // A lane uses that of the run which has started it.
  process.env[buildsVariable] ??= entryDirectory;
  const scope = openScope(hasLabs, options.inside ?? false);
  const before = await takeInventory(scope);
  try {
    const run = { plan: plan.filter(({ files }) => files.length > 0), options, entryDirectory, signal: abort.signal };
    const { results, problems } = await runLanes(run);
    if (options.times === true) printTimes(results);
    if (abort.signal.aborted) problems.push('the run was interrupted');
    if (options.inside !== true) {
      for (const leak of await findLeaks(before, scope)) problems.push(`left behind: ${leak}`);
    }
    return report({ results, problems });
  } finally {
    if (options.inside !== true) removeLeaks(scope);
    rmSync(entryDirectory, { recursive: true, force: true });
  }
}

type LanesRun = {
  readonly plan: readonly SuitePlan[];
  readonly options: RunOptions;
  readonly entryDirectory: string;
  readonly signal: AbortSignal;
};

/**
 * Runs the first lane here, whose report is printed as it comes, and the others in processes of their own: theirs is printed
 * between two suites.
 */
async function runLanes({ plan, options, entryDirectory, signal }: LanesRun): Promise<{
  readonly results: SuiteResult[];
  readonly problems: string[];
}> {
  const [first, ...others] = lanesOfRun(plan, options);
  const finished: LaneEnd[] = [];
  const printed = new Set<LaneEnd>();
  const printFinished = (): void => {
    for (const end of finished.filter((each) => !printed.has(each))) {
      printed.add(end);
      console.log(`\n${end.output}`);
    }
  };
  const ends = others.map(async (lane) => finished.push(await runLane({ lane, args: argsOfLane(options), signal })));
  const results: SuiteResult[] = [];
  for (const { suite, files } of plan.filter(({ suite }) => first.suites.includes(suite))) {
    if (signal.aborted) break;
    console.log(`\n${suite}`);
    const groups = groupsOf({ suite, files }, options, entryDirectory);
    results.push(await runSuite({ suite, groups, agentWorkers: options.agentWorkers, signal }));
    printFinished();
  }
  await Promise.all(ends);
  printFinished();
  return {
    results: [...finished.flatMap((end) => end.results), ...results],
    problems: finished.flatMap((end) => end.problems),
  };
}

/** A run inside another is one lane. So is one whose times are asked for: lanes slow each other. */
function lanesOfRun(plan: readonly SuitePlan[], { inside, times, worlds, otherNode }: RunOptions): [Lane, ...Lane[]] {
  const chosen = plan.map(({ suite }) => suite);
  const own = { node: process.execPath, worlds };
  if (inside === true || times === true) return [{ ...own, suites: chosen }];
  return lanesOf({ ...own, suites: chosen, otherNode });
}

function argsOfLane({ filter, agentWorkers }: RunOptions): string[] {
  return [
    ...(filter === undefined ? [] : ['--filter', filter]),
    ...(agentWorkers === undefined ? [] : ['--agent-workers', String(agentWorkers)]),
  ];
}

/** With --times every file has a process of its own, so that its time is its own. */
function groupsOf({ suite, files }: SuitePlan, { times }: RunOptions, entryDirectory: string): FileGroup[] {
  const { filesPerProcess = 1, secondsPerProcess = Infinity }: TestSuite = suites[suite];
  if (filesPerProcess === 1 || times === true) return files.map((entry) => ({ entry, files: [entry] }));
  const builtDirectory = import.meta.dirname;
  return groupFiles({ files, filesPerProcess, secondsPerProcess, builtDirectory, entryDirectory });
}

function findEmpty(plan: readonly { suite: SuiteName; files: string[] }[], filter: RegExp | null): string[] {
  if (filter === null) return plan.filter((p) => p.files.length === 0).map((p) => `suite ${p.suite} has no test file`);
  return plan.every((p) => p.files.length === 0) ? [`no test file matches ${filter}`] : [];
}

async function installPrograms(install: boolean): Promise<void> {
  await ensureRequirements({ install, log: (line) => console.error(line), requirements: requirementsOf('tests') });
}

function prepareLabs(): void {
  requireCommands(['ip']);
  requireFreshPrograms(path.resolve(import.meta.dirname, '..'));
  sweepStaleLabs();
}

function printTimes(results: readonly SuiteResult[]): void {
  for (const { suite, fileTimes } of results) {
    console.log(`\n${suite}: files by CPU time, and how long each took`);
    for (const { file, durationMs, cpuMs } of fileTimes)
      console.log(`${seconds(cpuMs).padStart(9)} ${seconds(durationMs).padStart(9)}  ${file}`);
  }
}

/** A lane sends it to the run that it is part of, which prints the whole. */
function report({ results, problems }: LaneReport): boolean {
  const failures = results.flatMap((result) => result.failures);
  const isOk = failures.length === 0 && problems.length === 0;
  if (process.send !== undefined) process.send({ results, problems });
  const all = [...failures.map((failure) => `failed: ${failure}`), ...problems];
  console.log('');
  for (const { suite, node, files, passed, failures: failed, durationMs, cpuMs } of results) {
    const time = `${seconds(durationMs)}, CPU ${seconds(cpuMs)}`;
    console.log(`${suite.padEnd(14)} Node ${node}: ${files} files, ${passed} passed, ${failed.length} failed, ${time}`);
  }
  for (const line of all) console.log(line);
  const passed = results.reduce((sum, result) => sum + result.passed, 0);
  console.log(isOk ? `ok: ${passed} tests` : `not ok: ${passed} tests passed, ${all.length} problems`);
  return isOk;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

function workerCount(text: string): number {
  if (/^[1-9]\d?$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Write a number from 1 to 99.');
}

function worldShare(text: string): number {
  const share = Number(text);
  if (share > 0 && share <= 1) return share;
  throw new InvalidArgumentError('Write a number above 0, up to 1.');
}

const program = new Command('run')
  .description('run the compiled tests, then check that nothing was left behind')
  .addArgument(
    new Argument('[suite...]', 'all but the optional ones (systemd, kubernetes) when left out').choices(suiteNames),
  )
  .option('--filter <regular expression>', 'only test files whose path matches')
  .option('--agent-workers <n>', 'data-plane threads of the agents, in every suite', workerCount)
  .option('--worlds <share>', 'how much of its worlds a property test tries, up to 1', worldShare, fewWorlds)
  .option('--times', 'print how much CPU time and how long each file took')
  .option('--other-node <binary>', 'at the same time, run the suites that need no mesh with this Node')
  .option('--second-node', 'leave out the files that end alike with any Node')
  .option('--inside', 'part of another run, which checks for what was left behind')
  .option('--install', 'install missing programs with apt-get')
  .action(async (wanted: SuiteName[], options: RunOptions) => {
    process.exitCode = (await runTests(wanted, options)) ? 0 : 1;
  });

try {
  await program.parseAsync();
} catch (error) {
  console.error(describeError(error));
  process.exitCode = 1;
}
