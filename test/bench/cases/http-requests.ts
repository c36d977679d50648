import { writeFileSync } from 'node:fs';
import path from 'node:path';
import type { BenchCase, CaseContext } from '../bench-case.js';
import type { BenchPath } from '../bench-path.js';
import type { CaseId } from '../case-ids.js';
import { observe } from '../observe.js';
import { parseWrkReport, wrkReportScript, type WrkReport } from '../wrk-report.js';

/**
 * Requests for a small page by wrk. With `newConnections` each request uses a new connection. The value is requests per
 * second, or with one connection the median latency.
 */
export function httpCase(id: CaseId, options: { connections: number; newConnections?: boolean }): BenchCase {
  const { connections, newConnections = false } = options;
  const isPingPong = connections === 1;
  const load = [`-c${connections}`, ...(newConnections ? ['-H', 'Connection: close'] : [])];
  return {
    id,
    title: newConnections
      ? 'a new connection per request'
      : `keep-alive, ${connections} ${isPingPong ? 'connection' : 'connections'}`,
    unit: isPingPong ? 'µs p50' : 'requests/s',
    better: isPingPong ? 'lower' : 'higher',
    services: ['http'],
    workers: 'all',
    measure: async (benchPath, context) => {
      const { result, proxyCpuSeconds, ...observed } = await observe(benchPath, 'http', () =>
        runWrk(benchPath, context, load),
      );
      const { requests, seconds, ...latency } = result;
      return {
        value: isPingPong ? latency.p50Us : requests / seconds,
        requestsPerSecond: requests / seconds,
        ...latency,
        cpuSecondsPer10k: (proxyCpuSeconds / requests) * 10_000,
        ...observed,
      };
    },
  };
}

async function runWrk(
  benchPath: BenchPath,
  { lab, seconds }: CaseContext,
  load: readonly string[],
): Promise<WrkReport> {
  const { ip, port } = await benchPath.open('http');
  const script = path.join(lab.mesh.lab.tempDir, 'wrk-report.lua');
  writeFileSync(script, wrkReportScript);
  const length = Math.max(1, Math.round(seconds));
  const argv = ['wrk', '-t1', '--timeout', '10s', `-d${length}s`, ...load, '-s', script, `http://${ip}:${port}/`];
  return parseWrkReport(await lab.client.check(argv, { timeoutMs: (length + 30) * 1000 }));
}
