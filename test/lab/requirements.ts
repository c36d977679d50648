import { accessSync, constants, existsSync } from 'node:fs';
import path from 'node:path';
import { CulvertError } from '../../shared/errors.js';
import { declaredPrograms, type Requirement } from './declared-programs.js';

/** The PATH of `su` and of many containers lacks the sbin directories. */
export const systemDirectories = ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'];

export function isMissing({ command, file }: Requirement): boolean {
  return findInstalled(command) === null || (file !== undefined && !existsSync(file));
}

/** The absolute path of a program of the PATH, or null. A command with a slash is already a path. */
export function findCommand(command: string): string | null {
  return findIn(command, directoriesOf(process.env['PATH']));
}

/** Like {@link findCommand}, and in the system's directories when the search path leaves them out. */
export function findInstalled(command: string, searchPath = process.env['PATH']): string | null {
  return findIn(command, [...directoriesOf(searchPath), ...systemDirectories]);
}

function findIn(command: string, directories: readonly string[]): string | null {
  if (command.includes('/')) return isExecutable(command) ? command : null;
  return directories.map((directory) => path.join(directory, command)).find(isExecutable) ?? null;
}

function directoriesOf(searchPath = ''): string[] {
  return searchPath.split(':').filter((directory) => directory !== '');
}

/** Throws `REQUIREMENT_MISSING`, which says what to install, unless this is root and the commands are in the PATH. */
export function requireCommands(commands: readonly string[]): void {
  if (process.getuid?.() !== 0) {
    const message = 'Network namespaces can only be made by root.';
    throw new CulvertError({ code: 'REQUIREMENT_MISSING', message, hint: 'run it as root, for example with sudo' });
  }
  for (const command of commands) requireProgram(command);
}

/**
 * Throws `REQUIREMENT_MISSING` with the program's name unless it is in the PATH. Programs that start another one (`ip netns
 * exec`, `nsenter`) report a missing program only with an exit code, which a test may mistake for the other's result.
 */
export function requireProgram(command: string): void {
  if (findCommand(command) !== null) return;
  const declared = declaredPrograms.find((program) => program.command === command);
  if (declared === undefined) {
    const message = `Missing: ${command}, which no table of requirements names.`;
    const hint = 'declare the program and its Debian package in test/lab/declared-programs.ts';
    throw new CulvertError({ code: 'REQUIREMENT_MISSING', message, hint });
  }
  if (findInstalled(command) !== null) {
    const message = `${command} is installed, and declared only for: ${Object.keys(declared.uses).join(', ')}.`;
    const hint = 'declare what else starts it in test/lab/declared-programs.ts';
    throw new CulvertError({ code: 'REQUIREMENT_MISSING', message, hint });
  }
  throw missingError([{ command, packages: declared.packages, why: Object.values(declared.uses)[0] ?? '' }]);
}

/** One line that says what is missing, why it is needed and how to get it. */
export function missingError(missing: readonly Requirement[]): CulvertError {
  const what = missing.map(({ command, why }) => `${command} (${why})`).join(', ');
  const hint = `apt-get install -y --no-install-recommends ${packagesOf(missing).join(' ')}`;
  return new CulvertError({ code: 'REQUIREMENT_MISSING', message: `Missing: ${what}.`, hint });
}

export function packagesOf(missing: readonly Requirement[]): string[] {
  return [...new Set(missing.flatMap(({ packages }) => packages))];
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
