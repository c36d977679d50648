import { randomBytes } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CulvertError, describeError } from '../../shared/errors.js';
import { lockFile, type FileLock } from '../../shared/native/file-lock.js';
import { hintForWrite } from '../../shared/write-hint.js';

/** What the kernel locks, which is seen from other containers too. It stays. */
const lockName = 'controller.lock';
const prefix = `${lockName}.`;
const heldMark = 'held';
/** With delays that double up to a second, this takes a few seconds in all. */
const maxAttempts = 12;
const firstDelayMs = 20;
const maxDelayMs = 1000;

type Claim = { readonly pid: string; readonly isHeld: boolean };

/**
 * Locks a state directory, because two controllers must not write one journal. Each process creates a file of its own,
 * `controller.lock.<pid>.<start time>.<random>`, and then lists those of others. Of any two processes the later one to list
 * sees the other's file, so they never both succeed. A process that meets another claim backs off and retries, unless that
 * claim already holds the lock. Files of dead processes are ignored; the start time tells a reused process id apart. Every
 * name is used once, so removing such a file cannot release the lock of a live process. `hint`: what to do when it is locked.
 *
 * In a container other process ids count, so the one that succeeds also locks `controller.lock` in the kernel
 * ({@link lockFile}). Without the addon, or on a file system without locks, only the files hold.
 *
 * Returns the function that releases the lock. Throws CulvertError `STATE_LOCKED` or `STATE_WRITE`.
 */
export async function lockState(
  stateDir: string,
  hint = 'stop the other controller, or give this one another --state-dir',
): Promise<() => Promise<void>> {
  const name = `${prefix}${process.pid}.${await startTimeOf(String(process.pid))}.${randomBytes(4).toString('hex')}`;
  const own = join(stateDir, name);
  try {
    for (let attempt = 0; ; attempt++) {
      await writeFile(own, '', { mode: 0o600, flag: 'wx' });
      const others = await claimsOfOthers(stateDir, name);
      const [other] = others;
      if (other === undefined) {
        const lock = await lockInKernel(stateDir, hint);
        await writeFile(own, heldMark);
        return async () => {
          await rm(own, { force: true });
          await lock?.release();
        };
      }
      await rm(own);
      const holder = others.find(({ isHeld }) => isHeld);
      if (holder !== undefined || attempt === maxAttempts) throw locked((holder ?? other).pid, hint);
      await delay(Math.random() * Math.min(firstDelayMs * 2 ** attempt, maxDelayMs));
    }
  } catch (cause) {
    await rm(own, { force: true }).catch(() => undefined);
    if (cause instanceof CulvertError) throw cause;
    throw new CulvertError({
      code: 'STATE_WRITE',
      message: `cannot write ${own}: ${describeError(cause)}`,
      hint: hintForWrite(cause),
      cause,
    });
  }
}

/** Null: there is no addon, or the file system has no locks. Errors: `STATE_LOCKED`. */
async function lockInKernel(stateDir: string, hint: string): Promise<FileLock | null> {
  const lock = await lockFile(join(stateDir, lockName), `${process.pid} on ${hostname()}`).catch((error: unknown) => {
    if (error instanceof CulvertError) return null;
    throw error;
  });
  if (lock === null || 'release' in lock) return lock;
  throw locked(lock.text === '' ? 'that did not say its number' : lock.text, hint);
}

/**
 * Whether another has locked the state directory in the kernel, in whatever container or, where the file system says it, on
 * whatever machine. Changes nothing. Errors: those of {@link lockFile}.
 */
export async function isLockedElsewhere(stateDir: string): Promise<string | null> {
  const lock = await lockFile(join(stateDir, lockName), '').catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  });
  if (lock === null) return null;
  if (!('release' in lock)) return lock.text;
  await lock.release();
  return null;
}

/** The claims of other live processes. Removes the files of dead ones. */
async function claimsOfOthers(stateDir: string, own: string): Promise<Claim[]> {
  const claims: Claim[] = [];
  for (const name of await readdir(stateDir)) {
    if (!name.startsWith(prefix) || name === own) continue;
    const [pid = '', startTime] = name.slice(prefix.length).split('.');
    const path = join(stateDir, name);
    if ((await startTimeOf(pid)) === startTime) {
      claims.push({ pid, isHeld: (await readFile(path, 'utf8').catch(() => '')) === heldMark });
    } else await rm(path, { force: true });
  }
  return claims;
}

/** Field 22 of /proc/PID/stat, in clock ticks since boot (proc(5)); `none` when there is no such process. */
async function startTimeOf(pid: string): Promise<string> {
  const stat = /^\d+$/.test(pid) ? await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined) : undefined;
  // The second field, the command in parentheses, may contain blanks.
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? 'none';
}

function locked(pid: string, hint: string): CulvertError {
  return new CulvertError({
    code: 'STATE_LOCKED',
    message: `the state directory is in use by process ${pid}`,
    hint,
  });
}
