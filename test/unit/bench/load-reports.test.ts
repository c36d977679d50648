import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseDescriptorLimit, relayedConnections } from '../../bench/descriptor-limit.js';
import { isServerBusy, parseIperfReport } from '../../bench/iperf-report.js';
import { cpuTimes, isBusy } from '../../bench/machine.js';
import { parseMemory, parseStat } from '../../bench/process-usage.js';
import { parseRedisBenchmark } from '../../bench/redis-benchmark-report.js';
import { parseWrkReport } from '../../bench/wrk-report.js';

const machine = { cpu: 'a CPU', cores: 2, kernel: '6.1.0', node: 'v20.12.0', busyCores: 0 };

describe('the report of wrk', () => {
  const line = (failures: number, requests = 300): string =>
    `Running 1s test\n  1 threads\nRequests/sec: 299.1\nwrk-report {"requests":${requests},"durationUs":1500000,` +
    `"failures":${failures},"p50Us":120,"p99Us":480,"p999Us":910}\n`;

  it('becomes requests, seconds and three quantiles', () => {
    const wanted = { requests: 300, seconds: 1.5, p50Us: 120, p99Us: 480, p999Us: 910 };
    assert.deepEqual(parseWrkReport(line(0)), wanted);
  });

  it('gives no figure when a request failed, none was answered, or there is no report', () => {
    assert.throws(() => parseWrkReport(line(3)), /3 requests of wrk failed/);
    assert.throws(() => parseWrkReport(line(0, 0)), /no request of wrk was answered/);
    assert.throws(() => parseWrkReport('unable to connect: Connection refused'), /no report/);
  });
});

describe('the report of iperf3', () => {
  it('counts what the receiver got', () => {
    const text = JSON.stringify({
      end: { sum_sent: { bytes: 9, seconds: 1 }, sum_received: { bytes: 5000, seconds: 2, bits_per_second: 20_000 } },
    });
    assert.deepEqual(parseIperfReport(text), { bytes: 5000, seconds: 2 });
  });

  it('tells a server that is not ready for the next run from a run that broke', () => {
    const report = (error: string, connected: readonly unknown[]): string =>
      JSON.stringify({ start: { connected }, error });
    const reset = 'unable to receive control message: Connection reset by peer';
    assert.ok(isServerBusy(report('the server is busy running a test. try again later', [])));
    assert.ok(isServerBusy(report(reset, [])));
    assert.ok(!isServerBusy(report(reset, [{ socket: 5 }])));
    assert.ok(!isServerBusy(report('unable to connect to server: Connection refused', [])));
    assert.ok(!isServerBusy('{"end":{}}'));
  });

  it('gives no figure when it failed or nothing arrived', () => {
    assert.throws(() => parseIperfReport('{"error":"unable to connect"}'), /unable to connect/);
    assert.throws(
      () => parseIperfReport('{"end":{"sum_received":{"bytes":0,"seconds":1}}}'),
      /no sum of what was received/,
    );
  });
});

/** As redis-benchmark 7.0 prints it, shortened. */
const redisText = `
====== SET ======
  200000 requests completed in 0.29 seconds
  16 parallel clients

Latency by percentile distribution:
0.000% <= 0.095 milliseconds (cumulative count 16)
50.000% <= 0.263 milliseconds (cumulative count 101984)
98.438% <= 0.927 milliseconds (cumulative count 196944)
99.219% <= 1.007 milliseconds (cumulative count 198496)
99.805% <= 1.359 milliseconds (cumulative count 199616)
99.902% <= 2.471 milliseconds (cumulative count 199808)
100.000% <= 2.671 milliseconds (cumulative count 200000)

Cumulative distribution of latencies:
0.128% <= 0.103 milliseconds (cumulative count 256)
100.000% <= 3.103 milliseconds (cumulative count 200000)

Summary:
  throughput summary: 692041.50 requests per second
`;

describe('the report of redis-benchmark', () => {
  it('becomes requests, seconds by the exact rate, and quantiles from the first distribution', () => {
    const { seconds, ...rest } = parseRedisBenchmark(redisText);
    assert.deepEqual(rest, { requests: 200_000, p50Us: 263, p99Us: 1007, p999Us: 2471 });
    assert.ok(Math.abs(seconds - 0.289) < 0.001);
  });

  it('gives no figure without a summary', () => {
    assert.throws(() => parseRedisBenchmark('Could not connect to Redis'), /printed no summary/);
    assert.throws(() => parseRedisBenchmark(redisText.replace(/Summary:[\s\S]*/, '')), /printed no summary/);
  });
});

describe('what /proc says of a process', () => {
  it('is read behind a name that holds spaces and parentheses', () => {
    const line = '42 (a) b) S 7 42 42 0 -1 4194560 100 200 0 0 30 12 5 3 20 0 11 0 1000 0 0';
    assert.deepEqual(parseStat(line), { pid: 42, parent: 7, ownTicks: 42, reapedTicks: 8 });
    assert.equal(parseStat(''), undefined);
  });

  it('gives resident memory in bytes, nothing for a process that is gone', () => {
    const status = 'Name:\tnode\nVmPeak:\t  99 kB\nVmHWM:\t     300 kB\nVmRSS:\t     200 kB\n';
    assert.deepEqual(parseMemory(status), { rssBytes: 204_800, peakRssBytes: 307_200 });
    assert.deepEqual(parseMemory(''), { rssBytes: 0, peakRssBytes: 0 });
  });

  it('tells busy ticks of all cores from idle ones', () => {
    const text = 'cpu  100 1 20 3000 40 5 6 7 0 0\ncpu0 50 0 10 1500 20 2 3 3 0 0\nintr 1\n';
    assert.deepEqual(cpuTimes(text), { busy: 139, idle: 3040 });
    assert.equal(isBusy({ ...machine, busyCores: 0.2 }), false);
    assert.equal(isBusy({ ...machine, busyCores: 0.3 }), true);
  });

  it('bounds how many connections a relay can carry by its descriptors', () => {
    const text =
      'Max processes  95 95 processes\nMax open files            20000                20000                files\n';
    assert.equal(parseDescriptorLimit(text), 20_000);
    assert.equal(relayedConnections(20_000), 9750);
    assert.throws(() => parseDescriptorLimit('Max processes 1 1'), /no limit of open files/);
  });
});
