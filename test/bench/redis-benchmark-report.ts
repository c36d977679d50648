/** The result of one `redis-benchmark` run. */
export type RedisBenchmarkReport = {
  readonly requests: number;
  readonly seconds: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
};

/** Parses the output of redis-benchmark 7 without `--csv` and `-q`. Throws for any other text. */
export function parseRedisBenchmark(text: string): RedisBenchmarkReport {
  const requests = Number(/(\d+) requests completed in /.exec(text)?.[1]);
  const rate = Number(/throughput summary: ([\d.]+) requests per second/.exec(text)?.[1]);
  const distribution = [...text.matchAll(/^([\d.]+)% <= ([\d.]+) milliseconds \(cumulative count \d+\)/gm)].map(
    ([, share, milliseconds]) => ({ share: Number(share), us: Math.round(Number(milliseconds) * 1000) }),
  );
  if (!(requests > 0) || !(rate > 0) || distribution.length === 0) {
    throw new Error(`redis-benchmark printed no summary: ${text}`);
  }
  // The first row at or above the share, as in the nearest-rank method; the last row is always 100 %.
  const at = (share: number): number => distribution.find((row) => row.share >= share)?.us ?? Number.NaN;
  return { requests, seconds: requests / rate, p50Us: at(50), p99Us: at(99), p999Us: at(99.9) };
}
