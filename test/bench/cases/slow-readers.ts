import { dataplaneSettingsTable } from '../../../agent/config/dataplane-settings-table.js';
import { spreadTunnels } from '../../../agent/dataplane/tunnel/tunnel-pool.js';
import type { BenchCase, CaseContext } from '../bench-case.js';
import type { BenchLab } from '../bench-lab.js';
import type { BenchPath } from '../bench-path.js';
import { reportOf, startLoad } from '../load-program.js';
import { resetPeaks, usageOf } from '../process-usage.js';

const slowReaders = 200;
const deadlineMs = 90_000;
/**
 * Consecutive samples in which the proxies move little more than the slow readers consume: then every buffer is full.
 */
const calm = { cores: 0.25, windowMs: 500, looks: 3 };
const longestFillMs = 40_000;
const quickFillMs = 8000;
/** Time to release memory after connections ended, before the next fast reader is measured. */
const restMs = 1000;

/**
 * One connection that reads as fast as it can, together with 200 slow readers and alone, before and after them. The value is
 * the share of its speed that it keeps. The memory for the slow readers is compared with the windows of their tunnels.
 */
export const slowReadersCase: BenchCase = {
  id: 'slow-readers',
  title: `fast beside ${slowReaders} slow readers`,
  unit: 'of its speed',
  better: 'higher',
  services: ['peer'],
  workers: 'all',
  measure: async (path, context) => {
    await using _ = await boundKernelBuffers(context.lab);
    const at = await path.open('peer');
    const { source, destination } = path.processes('peer');
    const proxies = [...source, ...destination];
    const before = await readFast(path, context);
    resetPeaks(proxies);
    const rssBefore = [source, destination].map((side) => usageOf(side).rssBytes);
    let beside: number;
    let largestRssBytes: number;
    let growthBytes: number;
    {
      await using load = await startLoad(context.lab.client, 'slow-readers', at, slowReaders);
      await reportOf(load, 'reading', deadlineMs);
      await becomeCalm(proxies, context.isQuick ? quickFillMs : longestFillMs);
      beside = await readFast(path, context);
      const peaks = [source, destination].map((side) => usageOf(side).peakRssBytes);
      largestRssBytes = Math.max(...peaks);
      growthBytes = Math.max(...peaks.map((peak, index) => peak - (rssBefore[index] ?? 0)));
    }
    await pause(restMs);
    // The machine may have changed meanwhile, so half of the reference is measured afterwards.
    const alone = (before + (await readFast(path, context))) / 2;
    return {
      value: beside / alone,
      aloneGigabits: alone,
      besideGigabits: beside,
      largestRssBytes,
      growthBytes,
      growthOfWindows: growthBytes / windowsBytes,
    };
  },
};

/** The largest size to which the kernel grows a connection's buffer by itself (tcp(7)), in bytes. */
const kernelBuffers = { tcp_rmem: '4096 131072 1048576', tcp_wmem: '4096 16384 1048576' };

/**
 * All connections of a machine share TCP's memory limit. On a small machine the buffers of 200 slow applications would use
 * it up, and the kernel would then shrink every window, for every path.
 */
async function boundKernelBuffers({ client, server }: BenchLab): Promise<AsyncDisposable> {
  const fileOf = (name: string): string => `/proc/sys/net/ipv4/${name}`;
  const names = Object.keys(kernelBuffers);
  const usual = await client.check(['cat', ...names.map(fileOf)]);
  const write = async (values: readonly string[]): Promise<void> => {
    const lines = names.map((name, index) => `echo "${values[index]}" > ${fileOf(name)}`);
    for (const node of [client, server]) await node.check(['sh', '-e', '-c', lines.join('\n')]);
  };
  await write(Object.values(kernelBuffers));
  return { [Symbol.asyncDispose]: () => write(usual.trim().split('\n')) };
}

/** Throws when the buffers never fill, because the result would then measure their filling. */
async function becomeCalm(pids: readonly number[], deadlineMs: number): Promise<void> {
  const end = performance.now() + deadlineMs;
  let { cpuSeconds: before } = usageOf(pids);
  let calmLooks = 0;
  while (calmLooks < calm.looks) {
    if (performance.now() > end)
      throw new Error(`the proxies are still busy ${deadlineMs} ms after the last slow reader`);
    await pause(calm.windowMs);
    const { cpuSeconds } = usageOf(pids);
    calmLooks = (cpuSeconds - before) / (calm.windowMs / 1000) < calm.cores ? calmLooks + 1 : 0;
    before = cpuSeconds;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** The windows of all tunnels of the slow readers: how much each agent may buffer for them, by its settings. */
const windowsBytes =
  Math.max(spreadTunnels, Math.ceil((slowReaders + 1) / dataplaneSettingsTable.maxStreamsPerTunnel.default)) *
  dataplaneSettingsTable.tunnelWindowBytes.default;

async function readFast(path: BenchPath, { lab, seconds, isQuick }: CaseContext): Promise<number> {
  const at = await path.open('peer');
  await using load = await startLoad(lab.client, 'fast-reader', at, isQuick ? 500 : seconds * 1000);
  const { bytes = Number.NaN, seconds: took = Number.NaN } = await reportOf(load, 'bytes', deadlineMs);
  return (bytes * 8) / took / 1e9;
}
