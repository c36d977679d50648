import type { BenchCase, CaseContext } from '../bench-case.js';
import type { BenchPath } from '../bench-path.js';
import { observe } from '../observe.js';
import { parseRedisBenchmark, type RedisBenchmarkReport } from '../redis-benchmark-report.js';

/** Commands of 64 bytes to redis and their answers, 16 in flight in each of 16 connections. */
export const smallMessagesCase: BenchCase = {
  id: 'small-messages',
  title: 'small messages both ways',
  unit: 'messages/s',
  better: 'higher',
  services: ['redis'],
  workers: 'all',
  measure: async (path, context) => {
    // The tool counts requests, not seconds, so a short run determines how many fill the time.
    const probe = await runRedisBenchmark(path, context, probeRequests);
    const rate = probe.requests / probe.seconds;
    const wanted = Math.max(probeRequests, Math.round(rate * context.seconds));
    const { result, proxyCpuSeconds, ...observed } = await observe(path, 'redis', () =>
      runRedisBenchmark(path, context, wanted),
    );
    const { requests, seconds, ...latency } = result;
    return {
      value: requests / seconds,
      ...latency,
      cpuSecondsPer10k: (proxyCpuSeconds / requests) * 10_000,
      ...observed,
    };
  },
};

const probeRequests = 50_000;

async function runRedisBenchmark(
  path: BenchPath,
  { lab }: CaseContext,
  requests: number,
): Promise<RedisBenchmarkReport> {
  const { ip, port } = await path.open('redis');
  const load = ['-t', 'set', '-d', '64', '-c', '16', '-P', '16', '-n', String(requests), '--precision', '3'];
  const argv = ['redis-benchmark', '-h', ip, '-p', String(port), ...load];
  return parseRedisBenchmark(await lab.client.check(argv, { timeoutMs: 120_000 }));
}
