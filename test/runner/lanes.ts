import { spawn } from 'node:child_process';
import path from 'node:path';
import process from 'node:process';
import { fewWorlds } from '../support/property-runs.js';
import { childrenCpu } from './children-cpu.js';
import type { SuiteResult } from './run-suite.js';
import { meshless, type SuiteName } from './suites.js';

/**
 * Suites that one process of the runner runs, one after another. Lanes run side by side: most tests wait more than they
 * compute, and a suite's last files would leave cores idle.
 */
export type Lane = {
  readonly suites: readonly SuiteName[];
  /** The binary. It is also the `node` of everything that these tests start. */
  readonly node: string;
  /** The share of their worlds that property tests try. */
  readonly worlds: number;
  /** Another lane runs the same suites with a newer Node, and has the files that end alike with any. */
  readonly isSecondNode?: boolean;
};

/** What a lane's process sends to its parent in the end. */
export type LaneReport = { readonly results: readonly SuiteResult[]; readonly problems: readonly string[] };

/** A report and all that the lane printed. A process that ends without a report is a problem. */
export type LaneEnd = LaneReport & { readonly output: string };

/**
 * The lanes of a run. The caller runs the first one itself; the others are for `runLane`. `suites` are in the order in which they
 * would run one after another.
 */
export function lanesOf(init: {
  readonly suites: readonly SuiteName[];
  readonly node: string;
  /** Runs the suites without a mesh too. Its property tests try fewer worlds: those are about our logic, not about Node. */
  readonly otherNode?: string | undefined;
  readonly worlds: number;
}): [Lane, ...Lane[]] {
  const { suites, node, otherNode, worlds } = init;
  const own = lanesOfOwn.map((isOfLane) => suites.filter(isOfLane));
  const [first = [], ...others] = own.filter((lane) => lane.length > 0);
  const lanes: Lane[] = others.map((lane) => ({ suites: lane, node, worlds }));
  if (otherNode !== undefined) {
    lanes.push({ suites: meshless, node: otherNode, worlds: Math.min(worlds, fewWorlds), isSecondNode: true });
  }
  return [{ suites: first, node, worlds }, ...lanes];
}

/** The two suites that take longest have a lane each. What comes after one of them seldom waits: cores are busy to the end. */
const lanesOfOwn: readonly ((suite: SuiteName) => boolean)[] = [
  (suite) => suite !== 'integration',
  (suite) => suite === 'integration',
];

/**
 * Runs a lane in a process of its own. The caller checks for leaks: neither lane could tell the other's namespaces from a leak.
 * Aborting ends it.
 */
export function runLane(init: {
  readonly lane: Lane;
  readonly args: readonly string[];
  readonly signal: AbortSignal;
}): Promise<LaneEnd> {
  const { lane, args, signal } = init;
  const env = { ...process.env, PATH: `${path.dirname(lane.node)}:${process.env['PATH']}` };
  const runner = path.resolve(import.meta.dirname, '../run.js');
  const own = ['--worlds', String(lane.worlds), '--inside', ...(lane.isSecondNode === true ? ['--second-node'] : [])];
  const stdio = ['ignore', 'pipe', 'pipe', 'ipc'] as const;
  const child = spawn(lane.node, [runner, ...lane.suites, ...args, ...own], {
    env,
    stdio: [...stdio],
  });
  // The runner cleans up, then ends.
  signal.addEventListener('abort', () => child.kill('SIGTERM'), { once: true });
  const pieces: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (piece: Buffer) => pieces.push(piece));
  let report: LaneReport | undefined;
  child.on('message', (message) => {
    report = message as LaneReport;
  });
  // The lane has counted it for its own suites.
  child.once('exit', () => childrenCpu.takeMs());
  return new Promise((resolve) => {
    const end = (why: string): void => {
      const output = Buffer.concat(pieces).toString('utf8');
      resolve({ output, ...(report ?? { results: [], problems: [`the lane of ${lane.suites.join(', ')} ${why}`] }) });
    };
    child.once('error', (error) => end(`cannot be started with ${lane.node}: ${error.message}`));
    child.once('close', (code, by) => end(by === null ? `ended with ${code} and no report` : `was ended by ${by}`));
  });
}
