import type { BenchPath } from './bench-path.js';
import type { ServiceName } from './bench-ports.js';
import { reapedChildrenCpuSeconds, resetPeaks, usageOf } from './process-usage.js';

/** Resources that a path's proxies and the load generator used during a load. */
export type Observed<T> = {
  readonly result: T;
  /** Of the proxies of both sides. */
  readonly proxyCpuSeconds: number;
  /** Cores that the load generator kept busy: near 1 means that a single-threaded client was the limit. */
  readonly clientCores: number;
  readonly peakRssSourceBytes: number;
  readonly peakRssDestinationBytes: number;
  /** The peak of the larger side. */
  readonly largestRssBytes: number;
};

/** `work` must start its load generators itself and wait for them: their CPU time is that of the children reaped meanwhile. */
export async function observe<T>(path: BenchPath, service: ServiceName, work: () => Promise<T>): Promise<Observed<T>> {
  const { source, destination } = path.processes(service);
  resetPeaks([...source, ...destination]);
  const before = { proxies: usageOf([...source, ...destination]).cpuSeconds, client: reapedChildrenCpuSeconds() };
  const startedAt = performance.now();
  const result = await work();
  const seconds = (performance.now() - startedAt) / 1000;
  const [atSource, atDestination] = [usageOf(source), usageOf(destination)];
  return {
    result,
    proxyCpuSeconds: atSource.cpuSeconds + atDestination.cpuSeconds - before.proxies,
    clientCores: (reapedChildrenCpuSeconds() - before.client) / seconds,
    peakRssSourceBytes: atSource.peakRssBytes,
    peakRssDestinationBytes: atDestination.peakRssBytes,
    largestRssBytes: Math.max(atSource.peakRssBytes, atDestination.peakRssBytes),
  };
}
