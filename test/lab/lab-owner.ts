import { readFileSync } from 'node:fs';

/** The process that owns a lab. The start time distinguishes it from a later process with the same pid. */
export type LabOwner = { readonly pid: number; readonly startTicks: string };

export function thisProcess(): LabOwner {
  return { pid: process.pid, startTicks: startTicksOf(process.pid) ?? '' };
}

export function isAlive(owner: LabOwner): boolean {
  return startTicksOf(owner.pid) === owner.startTicks;
}

/** Field 22 of /proc/PID/stat, clock ticks since boot (proc(5)); null for a process that has ended or is a zombie. */
function startTicksOf(pid: number): string | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return null;
  }
  // The name, field 2, is in parentheses and may itself contain spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? null : (fields[19] ?? null);
}
