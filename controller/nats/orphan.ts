import { readFile, rm } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { writePrivateFile } from '../../shared/private-file.js';

const stopTimeoutMs = 5000;
const pollMs = 25;

/** Records the child's pid for {@link stopOrphan}. Throws CulvertError `STATE_WRITE`. */
export async function writePidFile(path: string, pid: number): Promise<void> {
  await writePrivateFile(path, `${pid}\n`);
}

/**
 * Stops a nats-server that a killed controller left running: the process in the pid file, if its command line still names
 * our configuration file. It has the store's files open, so a second server must not start while it runs. Returns its pid,
 * or undefined when there was none.
 */
export async function stopOrphan(pidFile: string, configFile: string): Promise<number | undefined> {
  const pid = Number(await readFile(pidFile, 'utf8').catch(() => ''));
  if (!Number.isInteger(pid) || pid <= 1 || !(await isOurs(pid, configFile))) {
    await rm(pidFile, { force: true });
    return undefined;
  }
  send(pid, 'SIGTERM');
  const deadline = Date.now() + stopTimeoutMs;
  while (await isOurs(pid, configFile)) {
    if (Date.now() > deadline) send(pid, 'SIGKILL');
    await delay(pollMs);
  }
  await rm(pidFile, { force: true });
  return pid;
}

async function isOurs(pid: number, configFile: string): Promise<boolean> {
  // Empty for a zombie.
  const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
  return commandLine.split('\0').includes(configFile);
}

function send(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // The process has already ended, as intended.
  }
}
