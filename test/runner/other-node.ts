import { spawn } from 'node:child_process';
import path from 'node:path';
import process from 'node:process';
import { thoroughVariable } from '../support/property-runs.js';
import type { SuiteName } from './suites.js';

/** What a run under another Node ended with, and all that it printed. */
export type OtherRun = { readonly isOk: boolean; readonly output: string };

/**
 * Runs suites with another Node while this process runs its own. Most tests wait more than they compute, so both take hardly
 * longer than one. The outer run checks for leaks: neither could tell the other's namespaces from a leak. Aborting ends it.
 */
export function runWithOtherNode(init: {
  /** The binary. It is also the `node` of everything that these tests start. */
  readonly node: string;
  readonly suites: readonly SuiteName[];
  readonly args: readonly string[];
  readonly signal: AbortSignal;
}): Promise<OtherRun> {
  const { node, suites, args, signal } = init;
  const runner = path.resolve(import.meta.dirname, '../run.js');
  // The worlds of a property are about our logic: this process tries all of them, the other Node as many as a unit test run.
  const { [thoroughVariable]: _, ...inherited } = process.env;
  const env = { ...inherited, PATH: `${path.dirname(node)}:${process.env['PATH']}` };
  const child = spawn(node, [runner, ...suites, ...args, '--inside'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
  // The runner cleans up, then ends.
  signal.addEventListener('abort', () => child.kill('SIGTERM'), { once: true });
  const pieces: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (piece: Buffer) => pieces.push(piece));
  return new Promise((resolve) => {
    const end = (isOk: boolean, why = ''): void =>
      resolve({ isOk, output: Buffer.concat(pieces).toString('utf8') + why });
    child.once('error', (error) => end(false, `${node} cannot be started: ${error.message}\n`));
    child.once('close', (code, by) => end(code === 0, by === null ? '' : `it was ended by ${by}\n`));
  });
}
