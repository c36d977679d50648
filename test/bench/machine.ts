import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, release } from 'node:os';
import process from 'node:process';

/** Properties of the machine that figures depend on. */
export type Machine = {
  readonly cpu: string;
  readonly cores: number;
  readonly kernel: string;
  readonly node: string;
  /** How many cores were busy in the second before the run: other load affects the figures. */
  readonly busyCores: number;
};

const pollMs = 1000;

/** Takes a second, in which it measures how busy the machine is. */
export async function thisMachine(): Promise<Machine> {
  const cores = availableParallelism();
  const before = cpuTimes(readFileSync('/proc/stat', 'utf8'));
  await new Promise((resolve) => setTimeout(resolve, pollMs));
  const after = cpuTimes(readFileSync('/proc/stat', 'utf8'));
  const share = (after.busy - before.busy) / (after.busy + after.idle - before.busy - before.idle);
  return {
    cpu: cpuName(),
    cores,
    kernel: release().split('-')[0] ?? '',
    node: process.version,
    busyCores: share * cores,
  };
}

export function machineText({ cpu, cores, kernel, node, busyCores }: Machine): string {
  return `${cores} cores (${cpu}), Linux ${kernel}, Node ${node}, ${busyCores.toFixed(1)} cores busy before the run`;
}

/** Whether other programs use an eighth of the machine or more. */
export function isBusy({ busyCores, cores }: Machine): boolean {
  return busyCores > cores / 8;
}

/** Ticks of all cores together since boot, from /proc/stat (proc_stat(5)): idle and iowait, and the rest. */
export function cpuTimes(text: string): { readonly busy: number; readonly idle: number } {
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] = (
    /^cpu +(.*)$/m.exec(text)?.[1] ?? ''
  )
    .split(' ')
    .map(Number);
  return { busy: user + nice + system + irq + softirq + steal, idle: idle + iowait };
}

function cpuName(): string {
  const name = cpus()[0]?.model.trim() ?? '';
  if (name !== '' && name !== 'unknown') return name;
  return /^model name\s*:\s*(.+)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.trim() ?? 'unknown CPU';
}
