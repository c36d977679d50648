import { readFileSync, readlinkSync } from 'node:fs';

/**
 * Names a process for as long as the machine remembers: its boot, its pid, when it started in clock ticks since the boot
 * (proc_pid_stat(5), field 22), and the pid namespace in which it has that pid: each container has one of its own. A pid alone
 * is used again.
 */
export type ProcessMark = string;

export function thisProcess(): ProcessMark {
  return markOf(process.pid) ?? `unknown ${process.pid} 0`;
}

/** Another one after each start of the machine. */
export function thisBoot(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}

/** Whether the process that has this mark runs; null: it is of another pid namespace, into which this process does not see. */
export function isRunning(mark: ProcessMark): boolean | null {
  const [, pid, , namespace = ownNamespace()] = mark.split(' ');
  if (namespace !== ownNamespace()) return null;
  // Earlier versions named no namespace.
  const found = Number.isSafeInteger(Number(pid)) ? markOf(Number(pid)) : null;
  return found !== null && (found === mark || found.startsWith(`${mark} `));
}

function ownNamespace(): string {
  try {
    return readlinkSync('/proc/self/ns/pid');
  } catch {
    return 'unknown';
  }
}

/** Null: no such process runs. */
function markOf(pid: number): ProcessMark | null {
  try {
    const boot = thisBoot();
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The name, in parentheses, may contain anything. What follows it begins with field 3.
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    const startedAt = fields[18];
    return state === 'Z' || startedAt === undefined ? null : `${boot} ${pid} ${startedAt} ${ownNamespace()}`;
  } catch {
    return null;
  }
}
