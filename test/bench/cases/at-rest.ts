import type { BenchCase } from '../bench-case.js';
import { usageOf } from '../process-usage.js';

/** Long enough for a few heartbeats and checks, and for 10 ms ticks to resolve a tenth of a per cent. */
const windowSeconds = 15;
const quickWindowSeconds = 5;
/** Settling time, the same for every path: after a start, code is still compiled and memory is given back. */
const settleSeconds = 30;
const quickSettleSeconds = 4;

/** CPU use without traffic after settling. The value is the share of one core that the busier side uses. */
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
    await waitSeconds(isQuick ? quickSettleSeconds : settleSeconds);
    const before = sides.map((side) => usageOf(side).cpuSeconds);
    const startedAt = performance.now();
    await waitSeconds(isQuick ? quickWindowSeconds : windowSeconds);
    const seconds = (performance.now() - startedAt) / 1000;
    const after = sides.map((side) => usageOf(side));
    const percents = after.map(({ cpuSeconds }, at) => ((cpuSeconds - (before[at] ?? 0)) / seconds) * 100);
    return { value: Math.max(...percents), largestRssBytes: Math.max(...after.map(({ rssBytes }) => rssBytes)) };
  },
};

async function waitSeconds(seconds: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
}
