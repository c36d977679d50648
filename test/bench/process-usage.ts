import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

/** USER_HZ, in which /proc/PID/stat counts CPU time; the same on every architecture that Node runs on. */
const ticksPerSecond = 100;

type Stat = { readonly pid: number; readonly parent: number; readonly ownTicks: number; readonly reapedTicks: number };

/** Resources that some processes and their living descendants have used so far. */
export type Usage = {
  /** User and system time, with that of descendants that ended and were waited for. */
  readonly cpuSeconds: number;
  readonly rssBytes: number;
  /** The sum of the highest resident sizes since {@link resetPeaks}. */
  readonly peakRssBytes: number;
};

export function usageOf(roots: readonly number[]): Usage {
  const family = familyOf(roots);
  const memory = family.map(({ pid }) => memoryOf(pid));
  return {
    cpuSeconds: sum(family.map(({ ownTicks, reapedTicks }) => ownTicks + reapedTicks)) / ticksPerSecond,
    rssBytes: sum(memory.map(({ rssBytes }) => rssBytes)),
    peakRssBytes: sum(memory.map(({ peakRssBytes }) => peakRssBytes)),
  };
}

/** Resets the peaks to the current resident sizes (proc(5), /proc/PID/clear_refs). */
export function resetPeaks(roots: readonly number[]): void {
  for (const { pid } of familyOf(roots)) {
    try {
      writeFileSync(`/proc/${pid}/clear_refs`, '5');
    } catch {
      // It ended meanwhile.
    }
  }
}

/** CPU time of this process's children that ended and were waited for, in seconds: the load generators. */
export function reapedChildrenCpuSeconds(): number {
  return (parseStat(readFileSync('/proc/self/stat', 'utf8'))?.reapedTicks ?? 0) / ticksPerSecond;
}

/** A line of /proc/PID/stat (proc_pid_stat(5)): fields 1, 4, 14+15 and 16+17. Undefined for any other text. */
export function parseStat(line: string): Stat | undefined {
  // The name, field 2, is in parentheses and may itself contain spaces and parentheses.
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ');
  const stat = {
    pid: Number.parseInt(line, 10),
    parent: Number(fields[1]),
    ownTicks: Number(fields[11]) + Number(fields[12]),
    reapedTicks: Number(fields[13]) + Number(fields[14]),
  };
  return Object.values(stat).every(Number.isFinite) ? stat : undefined;
}

/** The fields of /proc/PID/status that are in kB, in bytes. */
export function parseMemory(status: string): { readonly rssBytes: number; readonly peakRssBytes: number } {
  const bytes = (field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
  return { rssBytes: bytes('VmRSS'), peakRssBytes: bytes('VmHWM') };
}

function familyOf(roots: readonly number[]): Stat[] {
  const all = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => parseStat(readIfThere(`/proc/${pid}/stat`)) ?? []);
  const members = new Set(roots);
  let before = 0;
  while (members.size > before) {
    before = members.size;
    for (const { pid, parent } of all) if (members.has(parent)) members.add(pid);
  }
  return all.filter(({ pid }) => members.has(pid));
}

function memoryOf(pid: number): { rssBytes: number; peakRssBytes: number } {
  return parseMemory(readIfThere(`/proc/${pid}/status`));
}

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
