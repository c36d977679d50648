/** What one run of `wrk` came to. */
export type WrkResult = {
  readonly requests: number;
  readonly requestsPerSecond: number;
  readonly bytes: number;
  readonly gigabitsPerSecond: number;
};

const unitBytes: Readonly<Record<string, number>> = { B: 1, KB: 1024, MB: 1024 ** 2, GB: 1024 ** 3, TB: 1024 ** 4 };

/** Reads the summary that `wrk` prints. Throws when it is not one, or when a request failed: such a figure means nothing. */
export function parseWrkOutput(text: string): WrkResult {
  const total = /(\d+) requests in ([\d.]+)(m?s|m), ([\d.]+)([KMGT]?B) read/.exec(text);
  if (total === null) throw new Error(`wrk printed no summary: ${text}`);
  const failures = /Socket errors: .*|Non-2xx.*/.exec(text);
  if (failures !== null) throw new Error(`wrk had failures: ${failures[0]}`);
  const [, requests, time, timeUnit = '', amount, unit = ''] = total;
  const seconds = Number(time) * ({ ms: 0.001, s: 1, m: 60 }[timeUnit] ?? Number.NaN);
  const bytes = Number(amount) * (unitBytes[unit] ?? Number.NaN);
  return {
    requests: Number(requests),
    requestsPerSecond: Number(requests) / seconds,
    bytes,
    gigabitsPerSecond: (bytes * 8) / seconds / 1e9,
  };
}
