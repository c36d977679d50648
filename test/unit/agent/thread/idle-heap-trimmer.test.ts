import assert from 'node:assert/strict';
import { test } from 'node:test';
import { getHeapStatistics } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { IdleHeapTrimmer, type ThreadSample } from '../../../../agent/thread/idle-heap-trimmer.js';

const mib = 1024 * 1024;
const grown: ThreadSample = { utilization: 0.01, youngBytes: 32 * mib, usedBytes: 20 * mib };

function slackOf(o: { thread?: Partial<ThreadSample>; mayPause?: boolean }): {
  lookAt: (ms: number) => number;
  stop: () => void;
} {
  let collections = 0;
  let nowMs = 0;
  const slack = new IdleHeapTrimmer({
    mayPause: () => o.mayPause ?? true,
    sampleThread: () => ({ ...grown, ...o.thread }),
    collect: () => (collections += 1),
    nowMs: () => nowMs,
  });
  return {
    lookAt: (ms) => {
      nowMs = ms;
      slack.poll();
      return collections;
    },
    stop: () => slack.stop(),
  };
}

void test('a thread at rest with a large young generation is collected, less and less often', () => {
  const { lookAt, stop } = slackOf({});
  const seconds: number[] = [];
  let before = 0;
  for (let second = 5; second <= 7200; second += 5) {
    const now = lookAt(second * 1000);
    if (now > before) seconds.push(second);
    before = now;
  }
  stop();
  assert.deepEqual(seconds.slice(0, 5), [5, 10, 20, 40, 80]);
  const gaps = seconds.slice(1).map((second, at) => second - (seconds[at] ?? 0));
  assert.equal(Math.max(...gaps), 600);
});

for (const [name, o] of [
  ['works', { thread: { utilization: 0.5 } }],
  ['has a small young generation', { thread: { youngBytes: 2 * mib } }],
  ['has a large heap', { thread: { usedBytes: 200 * mib } }],
  ['has connections that would wait', { mayPause: false }],
] as const) {
  void test(`a thread that ${name} is left alone`, () => {
    const { lookAt, stop } = slackOf(o);
    assert.equal(lookAt(60_000), 0);
    stop();
  });
}

void test('the collection is a real one', () => {
  const slack = new IdleHeapTrimmer({ mayPause: () => true, sampleThread: () => grown });
  let garbage: unknown[] | null = Array.from({ length: 400_000 }, (_, at) => ({ at }));
  const withGarbage = getHeapStatistics().used_heap_size;
  assert.equal(garbage.length, 400_000);
  garbage = null;
  slack.poll();
  slack.stop();
  assert.ok(getHeapStatistics().used_heap_size < withGarbage - 4 * mib);
});

void test('another thread that takes back the flag for gc at the same moment does no harm', async () => {
  const isRunning = new Int32Array(new SharedArrayBuffer(4));
  const other = new Worker(
    `const { workerData } = require('node:worker_threads');
     const { setFlagsFromString } = require('node:v8');
     do {
       setFlagsFromString('--no-expose-gc');
       if (Atomics.compareExchange(workerData, 0, 0, 1) === 0) Atomics.notify(workerData, 0);
     } while (Atomics.load(workerData, 0) === 1);`,
    { eval: true, workerData: isRunning },
  );
  try {
    Atomics.wait(isRunning, 0, 0, 10_000);
    assert.equal(Atomics.load(isRunning, 0), 1, 'the other thread runs');
    let nowMs = 0;
    const slack = new IdleHeapTrimmer({ mayPause: () => true, sampleThread: () => grown, nowMs: () => nowMs });
    for (let poll = 0; poll < 200; poll++) {
      nowMs += 3_600_000;
      assert.doesNotThrow(() => slack.poll());
    }
    slack.stop();
  } finally {
    Atomics.store(isRunning, 0, 2);
    await other.terminate();
  }
});
