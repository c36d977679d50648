import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { describeError } from '../../shared/errors.js';
import { fillBlocks } from '../docs/generated-blocks.js';
import { DeclaredPath } from '../lab/declared-path.js';
import { findLeaks, removeLeaks, takeInventory } from '../lab/leak-check.js';
import { requireCommands } from '../lab/requirements.js';
import { sweepStaleLabs } from '../lab/teardown.js';
import { requireFreshPrograms } from '../runner/fresh-programs.js';
import { openScope } from '../runner/leak-scope.js';
import { runSuite } from '../runner/run-suite.js';
import { findTestFiles } from '../runner/suites.js';
import type { ProxyMode } from './cluster/cluster-plan.js';
import { HeldCluster } from './cluster/held-cluster.js';
import { usualRepository, writeTestImages } from './images/test-images.js';
import { takeFigures } from './figures/figures-file.js';
import { isGateFile } from './gate-files.js';
import { Phases } from './phases.js';
import { buildPrograms } from './programs/build-programs.js';
import { describeTarget, targetVariables, usersKubectl } from './target.js';
import { userPrograms } from './user-programs.js';

export type KubernetesRun = {
  /** Of Kubernetes, such as `1.37`. */
  readonly minor: string;
  readonly jobs?: number;
  readonly proxyMode: ProxyMode;
  /** Two families of addresses in place of one. */
  readonly isDual: boolean;
  /** Of the paths of test files. */
  readonly filter: RegExp | null;
  /** Only the files of the gate. */
  readonly isGate: boolean;
  /** Waits for a signal in place of the suite. */
  readonly isHeld: boolean;
  /** Folder that gets the logs of the nodes; null: they go with the cluster. */
  readonly logs: string | null;
  /** What is tried many times is tried a thousand times, which takes half an hour. */
  readonly isSoak: boolean;
  /** Writes what the tests have measured into the documents, when all of them passed. */
  readonly writesFigures: boolean;
  /** Where the cluster of `KUBECONFIG` has the images from. */
  readonly images: string;
};

/** The output folder of the build. */
const builtDirectory = path.resolve(import.meta.dirname, '../..');

/**
 * Runs the suite on a cluster of our own, or with `KUBECONFIG` on the user's. Whether every test passed and nothing was left
 * behind on this machine. Everything is taken down, also when a part fails and on SIGINT and SIGTERM; what a killed run
 * has left, the next one removes.
 */
export async function runKubernetes(options: KubernetesRun): Promise<boolean> {
  const { KUBECONFIG: config = '' } = process.env;
  const isOwn = config === '';
  // The user's kubectl may need programs of the user.
  using declared = isOwn ? DeclaredPath.enter('kubernetes') : null;
  if (declared !== null) {
    declared.add(userPrograms);
    requireCommands(['ip', 'nsenter', 'unshare']);
    requireFreshPrograms(builtDirectory);
    for (const prefix of sweepStaleLabs()) console.log(`removed ${prefix}, which a run that was killed has left`);
  }
  const scope = openScope(isOwn, false);
  const before = await takeInventory(scope);
  const stop = (signal: NodeJS.Signals): void => {
    console.log(`${signal}: taking everything down`);
    removeLeaks(scope);
    declared?.[Symbol.dispose]();
    // Now it does what it does by itself.
    process.kill(process.pid, signal);
  };
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, stop);
  const phases = new Phases();
  const problems: string[] = [];
  try {
    problems.push(
      ...(declared === null ? await runOnUsers(options, phases) : await runOnOwn(options, declared, phases)),
    );
  } catch (error) {
    problems.push(describeError(error));
  }
  for (const leak of await findLeaks(before, scope)) problems.push(`left behind: ${leak}`);
  removeLeaks(scope);
  console.log(`\n${phases.summary()}`);
  for (const problem of problems) console.log(problem);
  console.log(problems.length === 0 ? 'ok' : `not ok: ${problems.length} problems`);
  return problems.length === 0;
}

async function runOnOwn(options: KubernetesRun, declared: DeclaredPath, phases: Phases): Promise<string[]> {
  const { minor, jobs, proxyMode, isDual } = options;
  const build = { minor, log: (line: string): void => phases.log(line), ...(jobs === undefined ? {} : { jobs }) };
  const programs = await phases.run('programs', () => buildPrograms(build));
  phases.log(programs.versions.join(', '));
  const held = new HeldCluster({ programs, proxyMode, isDual, declaredDirectory: declared.directory });
  const { cluster } = held;
  const problems: string[] = [];
  try {
    const archive = path.join(cluster.plan.directory, 'images.tar');
    await Promise.all([
      phases.run('two nodes with containerd', () => cluster.boot()),
      phases.run('images', () => writeTestImages({ file: archive, repository: usualRepository, programs })),
    ]);
    await Promise.all([
      phases.run('images on both nodes', () => cluster.load(archive)),
      phases.run('control plane', () => cluster.startControlPlane()),
    ]);
    rmSync(archive);
    await phases.run('both nodes Ready', () => cluster.startNodes());
    await phases.run('DNS', () => cluster.startDns());
    phases.log(await describeTarget(cluster.kubectl));
    process.env[targetVariables.plan] = held.file;
    const figures = path.join(cluster.plan.directory, 'figures');
    process.env[targetVariables.figures] = figures;
    if (options.isHeld) await hold(held);
    else problems.push(...(await phases.run('suite', () => runFiles(options))));
    if (options.writesFigures && problems.length === 0 && existsSync(figures)) {
      takeFigures(readFileSync(figures, 'utf8'), [
        programs.versions.find((name) => name.startsWith('kubernetes')) ?? '',
      ]);
      const page = 'deploy/docs/kubernetes.md';
      writeFileSync(page, await fillBlocks(readFileSync(page, 'utf8')));
      phases.log(`the figures are in ${page}`);
    }
  } finally {
    if (options.logs !== null) cluster.keepLogs(options.logs);
    await phases.run('down', () => held[Symbol.dispose]());
  }
  return [...problems, ...held.leftovers().map((line) => `left behind: ${line}`)];
}

/** What needs the insides of nodes is left out. */
async function runOnUsers(options: KubernetesRun, phases: Phases): Promise<string[]> {
  process.env[targetVariables.images] = options.images;
  // This run may be a test of another one, which has a cluster of its own.
  for (const name of [targetVariables.plan, targetVariables.figures]) delete process.env[name];
  phases.log(await describeTarget(usersKubectl()));
  return await phases.run('suite', () => runFiles(options, /any-cluster/));
}

async function runFiles({ filter, isGate, isSoak }: KubernetesRun, also = /./): Promise<string[]> {
  process.env[targetVariables.soak] = isSoak ? '1' : '0';
  const sourceDirectory = path.resolve(builtDirectory, '../test');
  const search = {
    suite: 'kubernetes',
    filter,
    builtDirectory: path.join(builtDirectory, 'test'),
    sourceDirectory,
  } as const;
  const files = findTestFiles(search).filter((file) => also.test(file) && (!isGate || isGateFile(file)));
  if (files.length === 0) return ['no test file matches'];
  const groups = files.map((entry) => ({ entry, files: [entry] }));
  const { signal } = new AbortController();
  const result = await runSuite({ suite: 'kubernetes', groups, signal, patience: isSoak ? 8 : 1 });
  const { passed, failures, fileTimes } = result;
  for (const { file, durationMs } of fileTimes.toSorted((a, b) => b.durationMs - a.durationMs))
    console.log(`${Math.round(durationMs / 1000)} s`.padStart(7), file);
  console.log(`${files.length} files, ${passed} passed, ${failures.length} failed`);
  if (passed === 0 && failures.length === 0) return ['no test ran'];
  return failures.map((failure) => `failed: ${failure}`);
}

/** Never returns: a signal takes the cluster down. */
async function hold({ cluster }: HeldCluster): Promise<never> {
  console.log(`\nCtrl-C takes it down. To talk to it:\n${[...cluster.usersKubectl, 'get', 'nodes'].join(' ')}\n`);
  setInterval(() => {}, 60_000);
  return await new Promise(() => {});
}
