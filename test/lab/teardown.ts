import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { CulvertError } from '../../shared/errors.js';
import { removeCgroup } from './lab-cgroups.js';
import { isAlive } from './lab-owner.js';
import type { LabState } from './lab-state.js';
import { readLabStates, removeIfEmpty, removeLabState } from './lab-state.js';

/** Directory of the files that `ip netns exec NAME` binds over /etc (ip-netns(8)). */
export const netnsConfigDirectory = '/etc/netns';
const netnsDirectory = '/run/netns';

/**
 * Removes a lab: the processes in its namespaces, the namespaces, their files under /etc/netns, its cgroups, the temporary
 * directory and finally its state file. Synchronous, so that it also works while the process exits. Missing parts are not an
 * error. Throws `LAB_TEARDOWN` when a part remains, and keeps the state file for the next attempt.
 */
export function tearDown(state: LabState): void {
  killProcessesIn(state.namespaces);
  deleteNamespaces(state.namespaces);
  for (const name of state.namespaces) {
    rmSync(path.join(netnsConfigDirectory, name), { recursive: true, force: true });
  }
  removeIfEmpty(netnsConfigDirectory);
  // Of a node of Kubernetes, which has the name of its namespace.
  for (const name of state.namespaces) removeCgroup(name);
  rmSync(state.tempDir, { recursive: true, force: true });
  const left = namespacesThatExist(state.namespaces);
  if (left.length > 0) {
    const message = `The lab ${state.prefix} could not be removed: ${left.join(', ')} stayed.`;
    throw new CulvertError({ code: 'LAB_TEARDOWN', message, hint: `npm run lab -- down ${state.prefix}` });
  }
  removeLabState(state.prefix);
}

/** Removes labs whose owner died, and returns their prefixes. Held labs stay. */
export function sweepStaleLabs(): string[] {
  const stale = readLabStates().filter((state) => state.owner !== null && !isAlive(state.owner));
  for (const state of stale) tearDown(state);
  return stale.map((state) => state.prefix);
}

/** Pids of the processes whose network namespace is one of these. Never this process. */
export function processesIn(namespaces: readonly string[]): number[] {
  const wanted = new Set(namespaces.flatMap((name) => fileIdentity(path.join(netnsDirectory, name)) ?? []));
  // The machine's own namespace must never be among them, whatever is bound to these paths.
  wanted.delete(fileIdentity('/proc/self/ns/net') ?? '');
  if (wanted.size === 0) return [];
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid)
    .filter((pid) => wanted.has(fileIdentity(`/proc/${pid}/ns/net`) ?? ''));
}

/** Repeats until no process is left: one that forks while it dies leaves a child behind. */
function killProcessesIn(namespaces: readonly string[]): void {
  const deadline = Date.now() + 5000;
  for (;;) {
    const pids = processesIn(namespaces);
    if (pids.length === 0 || Date.now() > deadline) return;
    for (const pid of pids) kill(pid);
    // Gives the kernel a moment to end them. This runs in exit handlers, which cannot await.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2);
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

function deleteNamespaces(namespaces: readonly string[]): void {
  const existing = namespacesThatExist(namespaces);
  if (existing.length === 0) return;
  const input = existing.map((name) => `netns del ${name}\n`).join('');
  // -force goes on after a line that fails, such as for a namespace that a concurrent sweep removed first.
  spawnSync('ip', ['-force', '-batch', '-'], { input, timeout: 20_000, stdio: ['pipe', 'ignore', 'ignore'] });
}

function namespacesThatExist(namespaces: readonly string[]): string[] {
  return namespaces.filter((name) => fileIdentity(path.join(netnsDirectory, name)) !== null);
}

/** Namespaces are inodes of nsfs: device and inode identify one. Null when the file does not exist. */
function fileIdentity(file: string): string | null {
  try {
    const { dev, ino } = statSync(file);
    return `${dev}:${ino}`;
  } catch {
    return null;
  }
}
