import { randomBytes } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CulvertError, describeError } from '../../shared/errors.js';
import { hintForWrite } from '../../shared/write-hint.js';

const prefix = 'controller.lock.';
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
        await writeFile(own, heldMark);
        return () => rm(own, { force: true });
      }
      await rm(own);
      const holder = others.find(({ isHeld }) => isHeld);
      if (holder !== undefined || attempt === maxAttempts) throw locked((holder ?? other).pid, hint);
      await delay(Math.random() * Math.min(firstDelayMs * 2 ** attempt, maxDelayMs));
    }
  } catch (cause) {
    if (cause instanceof CulvertError) throw cause;
    await rm(own, { force: true }).catch(() => undefined);
    throw new CulvertError({
      code: 'STATE_WRITE',
      message: `cannot write ${own}: ${describeError(cause)}`,
      hint: hintForWrite(cause),
      cause,
    });
  }
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
