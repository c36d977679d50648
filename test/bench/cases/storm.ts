import type { BenchCase } from '../bench-case.js';
import { reportOf, startLoad } from '../load-program.js';
import { observe } from '../observe.js';

const connections = 2000;
const deadlineMs = 90_000;

/** Opens all connections at once. The value is the time until the last one has echoed a byte. */
export const stormCase: BenchCase = {
  id: 'storm',
  title: `${connections.toLocaleString('en-US')} connections at once`,
  unit: 'ms',
  better: 'lower',
  services: ['peer'],
  workers: 'all',
  measure: async (path, { lab }) => {
    const at = await path.open('peer');
    const { result, proxyCpuSeconds, ...observed } = await observe(path, 'peer', async () => {
      await using load = await startLoad(lab.client, 'storm', at, connections);
      const figures = await reportOf(load, 'totalMs', deadlineMs);
      await load.exited;
      return figures;
    });
    const { totalMs = Number.NaN, failed = 0, p50Us = Number.NaN, p99Us = Number.NaN, p999Us = Number.NaN } = result;
    if (failed > 0) throw new Error(`${failed} of ${connections} connections at once failed`);
    const cpuSecondsPer10k = (proxyCpuSeconds / connections) * 10_000;
    return { value: totalMs, p50Us, p99Us, p999Us, cpuSecondsPer10k, ...observed };
  },
};
