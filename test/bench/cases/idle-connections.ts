import type { BenchCase } from '../bench-case.js';
import { reportOf, startLoad } from '../load-program.js';
import { usageOf } from '../process-usage.js';

const connections = 10_000;
/**
 * Fewer connections for the other proxies: their handshakes would take most of the run, and bytes per connection are
 * the same.
 */
const fewerConnections = { quick: 2000, whole: 5000 };
/** Time between the last byte and the memory measurement. */
const settleMs = 1000;
const deadlineMs = 180_000;

/**
 * Connections that carried one byte each way and are then idle. The value is the growth of resident memory per connection,
 * on the side where it grew more. Afterwards all of them must still carry a byte.
 */
export const idleConnectionsCase: BenchCase = {
  id: 'idle-10k',
  title: '10,000 idle connections',
  unit: 'bytes each',
  better: 'lower',
  services: ['peer'],
  workers: 'one',
  isOfProxies: true,
  measure: async (path, { lab, isQuick }) => {
    const at = await path.open('peer');
    const { source, destination } = path.processes('peer');
    const rss = (): number[] => [source, destination].map((side) => usageOf(side).rssBytes);
    const most = Math.min(isQuick ? fewerConnections.quick : fewerConnections.whole, lab.maxRelayed);
    const count = path.kind === 'culvert' ? connections : most;
    const [sourceBefore = 0, destinationBefore = 0] = rss();
    const { cpuSeconds: cpuBefore } = usageOf([...source, ...destination]);
    await using load = await startLoad(lab.client, 'hold-connections', at, count);
    const { seconds = Number.NaN } = await reportOf(load, 'open', deadlineMs);
    await new Promise((resolve) => setTimeout(resolve, settleMs));
    const [sourceRssBytes = 0, destinationRssBytes = 0] = rss();
    const { cpuSeconds: cpuAfter } = usageOf([...source, ...destination]);
    load.signal('SIGUSR2');
    await reportOf(load, 'alive', deadlineMs);
    const sourceBytesEach = (sourceRssBytes - sourceBefore) / count;
    const destinationBytesEach = (destinationRssBytes - destinationBefore) / count;
    return {
      value: Math.max(sourceBytesEach, destinationBytesEach),
      sourceBytesEach,
      destinationBytesEach,
      largestRssBytes: Math.max(sourceRssBytes, destinationRssBytes),
      connections: count,
      openedPerSecond: count / seconds,
      cpuSecondsPer10k: ((cpuAfter - cpuBefore) / count) * 10_000,
    };
  },
};
