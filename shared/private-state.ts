import { constants, type Stats } from 'node:fs';
import { lstat, open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { geteuid } from 'node:process';
import { describeError } from './errors.js';
import type { Log } from './log.js';

/** Bits of a mode that give others than the owner anything. */
const othersMask = 0o077;
/** Deeper than any state directory, including that of nats-server. */
const maxDepth = 12;

/** Names that a program makes in its state directory, and those that show that it has used the directory before. */
export type OwnNames = { readonly names: readonly string[]; readonly marks: readonly string[] };

/**
 * Takes from others every right to a state directory and to what the program has in it: files get 0600, directories 0700.
 * Whatever others could read is a secret that they may know, so each repair is logged as an error, and so is what cannot be
 * repaired or belongs to another user. A directory with directories of others keeps its mode, which is an error too: it may be
 * `/etc`, by a slip. Follows no symbolic link below the directory itself. Never rejects.
 */
export async function keepPrivate(directory: string, { names, marks }: OwnNames, log: Log): Promise<void> {
  const found: Findings = { repaired: [], foreign: [], failed: [] };
  const there = await readdir(directory, { withFileTypes: true }).catch(() => []);
  if (!there.some(({ name }) => marks.includes(name))) return;
  const ofOthers = there.filter((entry) => entry.isDirectory() && !isOneOf(names, entry.name));
  if (ofOthers.length === 0) await repair(directory, found, 0);
  else {
    log.error(
      { directory, directories: shown(ofOthers.map(({ name }) => name)) },
      'the state directory has directories that are not of Culvert, so its own rights stay as they are: give it one of its own',
    );
  }
  for (const { name } of there.filter((entry) => isOneOf(names, entry.name))) {
    await walk(join(directory, name), found, 1);
  }
  const { repaired, foreign, failed } = found;
  if (repaired.length > 0) {
    log.error(
      { directory, files: shown(repaired), count: repaired.length },
      'others had rights to files of the state directory, and may know the secrets in them; now only the owner has',
    );
  }
  if (foreign.length > 0) {
    log.error(
      { directory, files: shown(foreign), count: foreign.length },
      'files of the state directory belong to another user, who can read and change them: change their owner',
    );
  }
  if (failed.length > 0) {
    log.error(
      { directory, problems: shown(failed) },
      'the rights of files of the state directory could not be checked',
    );
  }
}

/** Also the temporary and the damaged file of a name, which have an ending more. */
function isOneOf(names: readonly string[], found: string): boolean {
  return names.some((name) => found === name || found.startsWith(`${name}.`));
}

type Findings = { readonly repaired: string[]; readonly foreign: string[]; readonly failed: string[] };

async function walk(path: string, found: Findings, depth: number): Promise<void> {
  if (!(await repair(path, found, depth)) || depth === maxDepth) return;
  const names = await readdir(path).catch((error: unknown) => {
    found.failed.push(`${path}: ${describeError(error)}`);
    return [];
  });
  for (const name of names) await walk(join(path, name), found, depth + 1);
}

/** Returns whether it is a directory. */
async function repair(path: string, found: Findings, depth: number): Promise<boolean> {
  try {
    return await secure(path, found, { followsLink: depth === 0 });
  } catch (error) {
    // Renamed or removed meanwhile, or never there.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') found.failed.push(`${path}: ${describeError(error)}`);
    return false;
  }
}

/** Returns whether it is a directory. Sockets and links are left alone. */
async function secure(path: string, found: Findings, o: { readonly followsLink: boolean }): Promise<boolean> {
  const seen = await lstat(path);
  if (!seen.isFile() && !seen.isDirectory() && !(o.followsLink && seen.isSymbolicLink())) return false;
  if (seen.isFile() && !isExposed(seen)) return false;
  // Opened first, so that what is changed is what was looked at.
  const noFollow = o.followsLink ? 0 : constants.O_NOFOLLOW;
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK | noFollow);
  try {
    const stats = await handle.stat();
    if (stats.uid !== geteuid?.()) {
      found.foreign.push(path);
    } else if ((stats.mode & othersMask) !== 0) {
      await handle.chmod(stats.isDirectory() ? 0o700 : 0o600);
      found.repaired.push(path);
    }
    return stats.isDirectory();
  } finally {
    await handle.close();
  }
}

function isExposed({ mode, uid }: Stats): boolean {
  return (mode & othersMask) !== 0 || uid !== geteuid?.();
}

function shown(paths: readonly string[]): string[] {
  return paths.slice(0, 20);
}
