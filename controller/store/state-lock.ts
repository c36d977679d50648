import { randomBytes } from 'node:crypto';
import { access, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CulvertError, describeError } from '../../shared/errors.js';
import { findLock, lockFile, makeLockFile, type LockedByOther } from '../../shared/native/file-lock.js';
import { hintForWrite } from '../../shared/write-hint.js';
import type { Problem } from '../resources/kinds/problem.js';
import { KeptLock, takeBackMs } from './kept-lock.js';
import { namesInControllerState } from './state-names.js';

/** What the kernel locks, which is seen from other containers too. It stays. */
const lockName = 'controller.lock';
const prefix = `${lockName}.`;
const heldMark = 'held';
/** With delays that double up to a second, this takes a few seconds in all. */
const maxAttempts = 12;
const firstDelayMs = 20;
const maxDelayMs = 1000;

type Claim = { readonly pid: string; readonly isHeld: boolean };

/** What becomes of a lock whose file is removed while it is held, see {@link KeptLock}. */
export type LockWatch = {
  /** It is held again. `message`: for the log. */
  readonly onTakenBack: (message: string) => void;
  /** It is not: another process has it (`STATE_LOCKED`), or the file cannot be locked (`STATE_WRITE`). Write nothing more. */
  readonly onLost: (error: CulvertError) => void;
};

/** That no other controller writes in a state directory. Its owner releases it. */
export type StateLock = {
  readonly release: () => Promise<void>;
  /** Why the kernel does not hold it too, where that was allowed; null: it does. */
  readonly unheldBecause: CulvertError | null;
};

/**
 * Locks a state directory, because two controllers must not write one journal. Each process creates a file of its own,
 * `controller.lock.<pid>.<start time>.<random>`, and then lists those of others. Of any two processes the later one to list
 * sees the other's file, so they never both succeed. A process that meets another claim backs off and retries, unless that
 * claim already holds the lock. Files of dead processes are ignored; the start time tells a reused process id apart. Every
 * name is used once, so removing such a file cannot release the lock of a live process.
 *
 * In a container other process ids count, so the one that succeeds also locks `controller.lock` in the kernel
 * ({@link lockFile}). Without the addon, or on a file system without locks, it is refused: the files alone do not keep apart two
 * controllers in different containers, each of which would take the other's file for that of a dead process. `isFilesEnough`: it
 * is not refused then. `hint`: what to do when it is locked.
 *
 * Where there is a state and `controller.lock` is missing, it was removed, perhaps under a process that runs: that one gets the
 * time to lock the file that is made here. `watch`: does so; without it, nothing is noticed.
 *
 * Throws CulvertError `STATE_LOCKED`, `NO_KERNEL_LOCK` or `STATE_WRITE`.
 */
export async function lockState(
  stateDir: string,
  {
    isFilesEnough = false,
    hint = 'stop the other controller, or give this one another --state-dir',
    watch = null,
  }: { readonly isFilesEnough?: boolean; readonly hint?: string; readonly watch?: LockWatch | null } = {},
): Promise<StateLock> {
  const name = `${prefix}${process.pid}.${await startTimeOf(String(process.pid))}.${randomBytes(4).toString('hex')}`;
  const own = join(stateDir, name);
  try {
    for (let attempt = 0; ; attempt++) {
      await writeFile(own, '', { mode: 0o600, flag: 'wx' });
      const others = await claimsOfOthers(stateDir, name);
      const [other] = others;
      if (other === undefined) {
        const lock = await lockInKernel(stateDir, { isFilesEnough, hint, watch });
        const release = async (): Promise<void> => {
          await rm(own, { force: true });
          if ('release' in lock) await lock.release();
        };
        await writeFile(own, heldMark).catch(async (error: unknown) => {
          await release();
          throw error;
        });
        return { release, unheldBecause: 'release' in lock ? null : lock };
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

/** The reason why there is no lock, where the files are enough. Errors: `STATE_LOCKED`, `NO_KERNEL_LOCK`. */
async function lockInKernel(
  stateDir: string,
  init: { readonly isFilesEnough: boolean; readonly hint: string; readonly watch: LockWatch | null },
): Promise<Pick<KeptLock, 'release'> | CulvertError> {
  const { isFilesEnough, hint, watch } = init;
  const [path, text] = [join(stateDir, lockName), `${process.pid} on ${hostname()}`];
  if (await isLockRemoved(stateDir)) {
    await makeLockFile(path);
    await delay(takeBackMs);
  }
  const lock = await lockFile(path, text).catch((cause: unknown) => {
    if (!(cause instanceof CulvertError)) throw cause;
    const error = noKernelLock(stateDir, cause);
    if (isFilesEnough) return error;
    throw error;
  });
  if ('text' in lock) throw locked(nameOf(lock), hint);
  if (watch === null || !('release' in lock)) return lock;
  return new KeptLock({
    path,
    text,
    lock,
    onTakenBack: () => watch.onTakenBack(`${path} was removed, and is made and locked again: leave it there`),
    onLost: (why) => watch.onLost(lockLost(path, why)),
  });
}

/** There is a state, which every controller has locked that made it, and its lock is gone. */
async function isLockRemoved(stateDir: string): Promise<boolean> {
  const isThere = async (name: string): Promise<boolean> =>
    access(join(stateDir, name)).then(
      () => true,
      () => false,
    );
  if (await isThere(lockName)) return false;
  return (await Promise.all(namesInControllerState.marks.map(isThere))).includes(true);
}

function lockLost(path: string, why: LockedByOther | Error): CulvertError {
  const hint = 'leave controller.lock where it is while a controller runs; the one that is right can be started again';
  if ('text' in why) {
    const message = `${path} was removed under this controller, and process ${nameOf(why)} has locked it since`;
    return new CulvertError({ code: 'STATE_LOCKED', message, hint });
  }
  const message = `${path} was removed under this controller, and cannot be locked again: ${describeError(why)}`;
  return new CulvertError({ code: 'STATE_WRITE', message, hint, cause: why });
}

/**
 * Who else has locked the state directory in the kernel, in whatever container or, where the file system says it, on whatever
 * machine; null: no other process. Changes nothing, and takes no lock. Errors: those of {@link findLock}.
 */
export async function isLockedElsewhere(stateDir: string): Promise<string | null> {
  const lock = await findLock(join(stateDir, lockName));
  return lock === null ? null : nameOf(lock);
}

/** A warning where only the files keep others out. */
export function lockWarnings({ unheldBecause: cause }: Pick<StateLock, 'unheldBecause'>): Problem[] {
  if (cause === null) return [];
  return [
    {
      severity: 'warning',
      fileName: null,
      document: null,
      line: null,
      resource: null,
      path: '',
      message: `the controller goes on without a lock of the kernel (--unsafe-without-kernel-lock): ${cause.message}`,
      hint: `${hintOf(cause)}; then start it without that option`,
    },
  ];
}

/** It may just have taken the lock. */
function nameOf({ text }: LockedByOther): string {
  return text === '' ? 'that did not say its number' : text;
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

/** What would bring the lock back. */
function hintOf({ cause }: CulvertError): string {
  return cause instanceof CulvertError ? (cause.hint ?? '') : '';
}

function noKernelLock(stateDir: string, cause: CulvertError): CulvertError {
  return new CulvertError({
    code: 'NO_KERNEL_LOCK',
    message: `${stateDir} cannot be locked in the kernel (${cause.message}), so a controller in another container or on another machine could write there too, and destroy it`,
    hint: `${cause.hint}. Where only processes of this machine can reach the directory, and none of them in a container: --unsafe-without-kernel-lock`,
    cause,
  });
}
