import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseWrkOutput } from '../bench/wrk-output.js';

/** As wrk 4.1 prints it. */
function summary(total: string, extra = ''): string {
  return `Running 4s test @ http://198.18.0.1/
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.51ms    1.21ms  18.30ms   78.11%
    Req/Sec     4.53k   310.22     5.20k    70.00%
  ${total}
${extra}Requests/sec:   4512.33
Transfer/sec:      1.12MB
`;
}

test('the summary of wrk becomes requests and bits a second', () => {
  assert.deepEqual(parseWrkOutput(summary('18050 requests in 4.00s, 2.00GB read')), {
    requests: 18_050,
    requestsPerSecond: 4512.5,
    bytes: 2 * 1024 ** 3,
    gigabitsPerSecond: 4.294967296,
  });
  assert.equal(parseWrkOutput(summary('600 requests in 1.00m, 512.00KB read')).requestsPerSecond, 10);
});

test('a run with failed requests or without a summary gives no figure', () => {
  const total = '18050 requests in 4.00s, 2.00GB read';
  const failures = ['  Socket errors: connect 0, read 3, write 0, timeout 0\n', '  Non-2xx or 3xx responses: 7\n'];
  for (const failure of failures) assert.throws(() => parseWrkOutput(summary(total, failure)), /had failures/);
  assert.throws(() => parseWrkOutput('unable to connect to 198.18.0.1:80 Connection refused'), /no summary/);
});
