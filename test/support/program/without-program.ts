import assert from 'node:assert/strict';
import { realpathSync } from 'node:fs';
import { findInstalled } from '../../lab/requirements.js';

/** Runs a command where one program of the machine cannot be run, wherever it is looked for. */
export function withoutProgram(name: string, argv: readonly string[]): readonly string[] {
  const program = findInstalled(name) ?? assert.fail(`${name} is not installed`);
  // In a namespace of its own for mounts: the machine keeps the program.
  const hide = 'mount --bind /dev/null "$0"; exec "$@"';
  return ['unshare', '--mount', '--propagation', 'private', 'sh', '-ec', hide, realpathSync(program), ...argv];
}
