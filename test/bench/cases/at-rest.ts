import type { BenchCase } from '../bench-case.js';
import { usageOf } from '../process-usage.js';

/** Long enough for a few heartbeats and checks, and for ticks of 10 ms to tell half a per cent. */
const windowSeconds = 10;
const quickWindowSeconds = 5;

/** Started, ready, and without traffic: what the side that takes more takes of one core. */
export const atRestCase: BenchCase = {
  id: 'at-rest',
  title: 'at rest',
  unit: '% of a core',
  better: 'lower',
  services: ['peer'],
  workers: 'one',
  isOfProxies: true,
  isPassive: true,
  measure: async (path, { isQuick }) => {
    await path.open('peer');
    const { source, destination } = path.processes('peer');
    const sides = [source, destination];
    const before = sides.map((side) => usageOf(side).cpuSeconds);
    const startedAt = performance.now();
    await new Promise((resolve) => setTimeout(resolve, (isQuick ? quickWindowSeconds : windowSeconds) * 1000));
    const seconds = (performance.now() - startedAt) / 1000;
    const after = sides.map((side) => usageOf(side));
    const percents = after.map(({ cpuSeconds }, at) => ((cpuSeconds - (before[at] ?? 0)) / seconds) * 100);
    return { value: Math.max(...percents), largestRssBytes: Math.max(...after.map(({ rssBytes }) => rssBytes)) };
  },
};
