import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { CulvertError } from '../../shared/errors.js';

/**
 * Makes sure that one controller uses a state directory: two would write one journal. The file `controller.lock` names
 * the process and when it started, so that a lock left by a crash (or by another process with the same number after
 * a reboot) is recognised. Returns the function that gives it back. Throws CulvertError `STATE_LOCKED`.
 */
export async function lockState(stateDir: string): Promise<() => Promise<void>> {
  const path = join(stateDir, 'controller.lock');
  const own = `${process.pid} ${await startTimeOf(process.pid)}\n`;
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      const handle = await open(path, 'wx', 0o600);
      await handle.writeFile(own);
      await handle.close();
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const holder = await liveHolder(path);
      if (holder !== undefined) throw locked(holder);
      await rm(path, { force: true });
    }
  }
  throw locked('another process');
}

async function liveHolder(path: string): Promise<string | undefined> {
  const text = await readFile(path, 'utf8').catch(() => '');
  const [pid = '', startTime] = text.trim().split(' ');
  if (!/^\d+$/.test(pid)) return undefined;
  const present = await startTimeOf(Number(pid));
  return present !== undefined && present === startTime ? `process ${pid}` : undefined;
}

/** Field 22 of /proc/PID/stat, in clock ticks since boot (proc(5)); undefined when there is no such process. */
async function startTimeOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  // The second field, the command in parentheses, may contain blanks.
  return stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
}

function locked(holder: string): CulvertError {
  return new CulvertError({
    code: 'STATE_LOCKED',
    message: `the state directory is in use by ${holder}`,
    hint: 'stop the other controller, or give this one another --state-dir',
  });
}
