import { dataplaneSettingsTable } from '../../../agent/config/dataplane-settings-table.js';
import type { BenchCase, CaseContext } from '../bench-case.js';
import type { BenchPath } from '../bench-path.js';
import { reportOf, startLoad } from '../load-program.js';
import { resetPeaks, usageOf } from '../process-usage.js';

const slowReaders = 200;
const deadlineMs = 90_000;
/** Every buffer on the way is full when the proxies move little more than the slow readers take. */
const calm = { cores: 0.25, windowMs: 500 };
const longestFillMs = 20_000;
const quickFillMs = 2000;

/**
 * One connection that reads as fast as it can, alone and then beside 200 that hardly read. The value is the share of its
 * speed that it keeps. The memory that the slow ones cost is compared with what the windows of their tunnels allow.
 */
export const slowReadersCase: BenchCase = {
  id: 'slow-readers',
  title: `fast beside ${slowReaders} slow readers`,
  unit: 'of its speed',
  better: 'higher',
  services: ['peer'],
  workers: 'all',
  measure: async (path, context) => {
    const at = await path.open('peer');
    const { source, destination } = path.processes('peer');
    const alone = await readFast(path, context);
    resetPeaks([...source, ...destination]);
    const before = [source, destination].map((side) => usageOf(side).rssBytes);
    await using load = await startLoad(context.lab.client, 'slow-readers', at, slowReaders);
    await reportOf(load, 'reading', deadlineMs);
    await becomeCalm([...source, ...destination], context.isQuick ? quickFillMs : longestFillMs);
    const beside = await readFast(path, context);
    const growth = [source, destination].map((side, at) => usageOf(side).peakRssBytes - (before[at] ?? 0));
    const growthBytes = Math.max(...growth);
    return {
      value: beside / alone,
      aloneGigabits: alone,
      besideGigabits: beside,
      growthBytes,
      growthOfWindows: growthBytes / windowsBytes,
    };
  },
};

async function becomeCalm(pids: readonly number[], deadlineMs: number): Promise<void> {
  const end = performance.now() + deadlineMs;
  let before = usageOf(pids).cpuSeconds;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, calm.windowMs));
    const { cpuSeconds } = usageOf(pids);
    const cores = (cpuSeconds - before) / (calm.windowMs / 1000);
    if (cores < calm.cores || performance.now() > end) return;
    before = cpuSeconds;
  }
}

/** The windows of as many tunnels as the slow readers need: what each agent may hold for them, by its settings. */
const windowsBytes =
  Math.ceil((slowReaders + 1) / dataplaneSettingsTable.maxStreamsPerTunnel.default) *
  dataplaneSettingsTable.tunnelWindowBytes.default;

async function readFast(path: BenchPath, { lab, seconds, isQuick }: CaseContext): Promise<number> {
  const at = await path.open('peer');
  await using load = await startLoad(lab.client, 'fast-reader', at, isQuick ? 500 : seconds * 1000);
  const { bytes = Number.NaN, seconds: took = Number.NaN } = await reportOf(load, 'bytes', deadlineMs);
  return (bytes * 8) / took / 1e9;
}
