import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release } from 'node:os';
import process from 'node:process';

/** What a figure depends on besides the code. */
export type Machine = {
  readonly cpu: string;
  readonly cores: number;
  readonly kernel: string;
  readonly node: string;
  /** Of the last minute before the run: whatever else runs is in the figures. */
  readonly loadAverage: number;
};

export function thisMachine(): Machine {
  return {
    cpu: cpuName(),
    cores: availableParallelism(),
    kernel: release().split('-')[0] ?? '',
    node: process.version,
    loadAverage: loadavg()[0] ?? 0,
  };
}

export function machineText({ cpu, cores, kernel, node, loadAverage }: Machine): string {
  return `${cores} cores (${cpu}), Linux ${kernel}, Node ${node}, load average before the run ${loadAverage.toFixed(1)}`;
}

/** In the minute before, half of the cores or more had something to do; a build just before is enough for that. */
export function isBusy({ loadAverage, cores }: Machine): boolean {
  return loadAverage > cores / 2;
}

function cpuName(): string {
  const name = cpus()[0]?.model.trim() ?? '';
  if (name !== '' && name !== 'unknown') return name;
  return /^model name\s*:\s*(.+)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1]?.trim() ?? 'unknown CPU';
}
