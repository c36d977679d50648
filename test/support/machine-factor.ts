import { setImmediate as turn } from 'node:timers/promises';

/** CPU time of one measurement. */
const sampleMs = 60;

/**
 * How many times longer than on an idle machine work takes now: wall time over CPU time of a loop that computes and yields.
 * At least 1; about 15 with 30 busy processes on two cores. A bound on a duration is multiplied with it, measured in the
 * same run, close to what is bounded.
 */
export async function machineFactor(): Promise<number> {
  const startedAtMs = performance.now();
  const startedCpuMs = cpuMs();
  while (cpuMs() - startedCpuMs < sampleMs) {
    compute();
    await turn();
  }
  return Math.max(1, (performance.now() - startedAtMs) / (cpuMs() - startedCpuMs));
}

/** Runs `step` and returns how long it would have taken on an idle machine: the load before and after it is taken out. */
export async function idleMsOf(step: () => Promise<unknown>): Promise<number> {
  const before = await machineFactor();
  const startedAtMs = performance.now();
  await step();
  const tookMs = performance.now() - startedAtMs;
  return tookMs / Math.max(before, await machineFactor());
}

/** CPU time that this process has used: what a computation costs, whatever else the machine does. */
export function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

function compute(): number {
  let sum = 0;
  for (let index = 0; index < 200_000; index++) sum = (sum + Math.imul(index, 2_654_435_761)) >>> 0;
  return sum;
}
