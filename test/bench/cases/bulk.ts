import type { BenchCase, CaseContext } from '../bench-case.js';
import type { BenchPath } from '../bench-path.js';
import type { CaseId } from '../case-ids.js';
import { type IperfReport, isServerBusy, parseIperfReport } from '../iperf-report.js';
import { observe } from '../observe.js';

/** Bulk transfer over a number of connections, to the server and then from it. The value is the mean rate of both. */
export function bulkCase(id: CaseId, streams: number): BenchCase {
  return {
    id,
    title: `bulk, ${streams} ${streams === 1 ? 'stream' : 'streams'}`,
    unit: 'Gbit/s',
    better: 'higher',
    services: ['bulk'],
    workers: 'all',
    measure: async (path, context) => {
      const { result, proxyCpuSeconds, ...observed } = await observe(path, 'bulk', async () => ({
        up: await runIperf(path, context, streams, []),
        down: await runIperf(path, context, streams, ['--reverse']),
      }));
      const { up, down } = result;
      const bytes = up.bytes + down.bytes;
      return {
        value: gigabits({ bytes, seconds: up.seconds + down.seconds }),
        upGigabits: gigabits(up),
        downGigabits: gigabits(down),
        cpuSecondsPerGb: proxyCpuSeconds / (bytes / 1e9),
        ...observed,
      };
    },
  };
}

function gigabits({ bytes, seconds }: IperfReport): number {
  return (bytes * 8) / seconds / 1e9;
}

async function runIperf(
  path: BenchPath,
  { lab, seconds }: CaseContext,
  streams: number,
  direction: readonly string[],
): Promise<IperfReport> {
  const { ip, port } = await path.open('bulk');
  const length = Math.max(1, Math.round(seconds));
  const load = ['-P', String(streams), '-t', String(length), ...direction];
  const argv = ['iperf3', '--json', '-c', ip, '-p', String(port), ...load];
  const deadline = performance.now() + 10_000;
  for (;;) {
    const { stdout } = await lab.client.exec(argv, { timeoutMs: (length + 30) * 1000 });
    if (!isServerBusy(stdout) || performance.now() > deadline) return parseIperfReport(stdout);
  }
}
