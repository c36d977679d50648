import { accessSync, constants, statSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';

/** What the PATH of a unit, of `su` without a login, or of a job of cron lacks in part. Debian has nats-server in /usr/sbin. */
const systemDirectories = ['/usr/sbin', '/sbin', '/usr/bin', '/bin'];
/** Where people put what no package brings, such as kubectl. */
const localDirectories = ['/usr/local/sbin', '/usr/local/bin'];

/**
 * Where a daemon looks for the programs that it starts: the directories of PATH, then those of the system. Those without an
 * absolute name are left out, also the empty one, which means the working directory: what lies there must not run with its
 * rights.
 */
export function programPath(path = process.env['PATH'] ?? ''): string {
  return [...path.split(':').filter((directory) => directory.startsWith('/')), ...systemDirectories].join(':');
}

/** Where a command looks for the programs of the person who runs it: as that person's shell does, then as {@link programPath}. */
export function personalPath(path = ''): string {
  return [...(path === '' ? [] : [path]), ...localDirectories, ...systemDirectories].join(':');
}

/**
 * Where a daemon finds a program; null: nowhere. It is not run: a start must be fast, and what is broken says so when it is
 * used.
 */
export function findProgram(name: string): string | null {
  const places = programPath().split(':');
  return places.map((directory) => join(directory, name)).find(isProgram) ?? null;
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
