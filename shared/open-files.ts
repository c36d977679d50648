import { readFileSync } from 'node:fs';

/** How many descriptors this process can have open (RLIMIT_NOFILE, soft); infinite if it is `unlimited` or not known. */
export function openFilesLimit(): number {
  try {
    return parseOpenFilesLimit(readFileSync('/proc/self/limits', 'utf8'));
  } catch {
    // Not Linux: only the controller runs there.
    return Number.POSITIVE_INFINITY;
  }
}

/** The soft limit in the text of /proc/PID/limits (proc_pid_limits(5)). */
export function parseOpenFilesLimit(limits: string): number {
  const match = /^Max open files\s+(\d+|unlimited)/m.exec(limits);
  const soft = Number(match?.[1]);
  return Number.isInteger(soft) ? soft : Number.POSITIVE_INFINITY;
}
