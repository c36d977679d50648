import { readFileSync } from 'node:fs';
import process from 'node:process';
import { runCommand } from '../lab/command.js';

/**
 * Raises the limit of open descriptors for this process and its children as far as permitted. Returns the limit in force,
 * since a container often cannot raise it.
 */
export async function raiseDescriptorLimit(wanted: number): Promise<number> {
  const before = descriptorLimit();
  if (before >= wanted) return before;
  await runCommand(['prlimit', '--pid', String(process.pid), `--nofile=${wanted}:${wanted}`]);
  return descriptorLimit();
}

/** The soft limit, which Node raises to the hard one at its start. */
function descriptorLimit(): number {
  return parseDescriptorLimit(readFileSync('/proc/self/limits', 'utf8'));
}

/** From the text of /proc/PID/limits (proc(5)). Throws when the line is missing. */
export function parseDescriptorLimit(text: string): number {
  const soft = /^Max open files\s+(\d+|unlimited)/m.exec(text)?.[1];
  if (soft === undefined) throw new Error('/proc/self/limits names no limit of open files');
  return soft === 'unlimited' ? Number.MAX_SAFE_INTEGER : Number(soft);
}

/** How many connections a relay can carry with two descriptors per connection and some to spare. */
export function relayedConnections(limit: number): number {
  return Math.max(1, Math.floor(limit / 2) - 250);
}
