import { readFileSync } from 'node:fs';

/** Ticks of /proc/PID/stat in a second, the same on every machine (proc(5), USER_HZ). */
const ticksPerSecond = 100;

/**
 * CPU time of the child processes of this one. The kernel adds it when a child has ended: with all that the child waited for,
 * without daemons that it left.
 */
class ChildrenCpu {
  #countedMs = endedMs();

  /** Milliseconds, of the children that have ended since the last call. Right after the end of one child they are its own. */
  takeMs(): number {
    const beforeMs = this.#countedMs;
    this.#countedMs = endedMs();
    return this.#countedMs - beforeMs;
  }
}

/** One for this process: what one caller takes is not another's. */
export const childrenCpu = new ChildrenCpu();

/** `cutime` and `cstime`, the 16th and the 17th value. The second, a name in parentheses, may have spaces. */
function endedMs(): number {
  const stat = readFileSync('/proc/self/stat', 'utf8');
  const values = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(values[13]) + Number(values[14])) * 1000) / ticksPerSecond;
}
