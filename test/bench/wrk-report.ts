/** The result of one `wrk` run with {@link wrkReportScript}. */
export type WrkReport = {
  readonly requests: number;
  readonly seconds: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
};

/** Script for `wrk -s`: prints one line of JSON at the end, since wrk's own output is rounded. */
export const wrkReportScript = `
function done(summary, latency, requests)
  local errors = summary.errors
  local failures = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format('wrk-report {"requests":%d,"durationUs":%d,"failures":%d,"p50Us":%d,"p99Us":%d,"p999Us":%d}\\n',
    summary.requests, summary.duration, failures,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
`;

/** Throws without a report, or when a request failed, because such a figure is meaningless. */
export function parseWrkReport(text: string): WrkReport {
  const found = /^wrk-report (\{.*\})$/m.exec(text);
  if (found === null) throw new Error(`wrk wrote no report: ${text}`);
  const report = JSON.parse(found[1] ?? '') as WrkReport & { durationUs: number; failures: number };
  if (report.failures > 0) throw new Error(`${report.failures} requests of wrk failed: ${text}`);
  if (report.requests === 0) throw new Error(`no request of wrk was answered: ${text}`);
  const { requests, durationUs, p50Us, p99Us, p999Us } = report;
  return { requests, seconds: durationUs / 1e6, p50Us, p99Us, p999Us };
}
