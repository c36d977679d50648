import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { EventLoopDelay } from '../../../../agent/thread/event-loop-delay.js';

/** Waits without leaving the event loop, and without a core that other tests could use. */
function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

test('a lone delay of an idle loop is seen, and told once', async () => {
  const measured = new EventLoopDelay();
  try {
    block(1600);
    await delay(20);
    const p99Ms = measured.takeP99Ms();
    assert.ok(p99Ms >= 500, `${p99Ms} ms`);
    assert.ok(measured.takeP99Ms() < p99Ms);
  } finally {
    measured.stop();
  }
});

test('the delays of a loop that works are seen, also those between two windows', async () => {
  const measured = new EventLoopDelay();
  try {
    // It takes a window to see that the loop works.
    for (const end = performance.now() + 1500; performance.now() < end; await delay(1)) block(30);
    measured.takeP99Ms();
    for (let count = 0; count < 5; count++) {
      block(120);
      await delay(1);
    }
    const p99Ms = measured.takeP99Ms();
    assert.ok(p99Ms >= 60, `${p99Ms} ms`);
  } finally {
    measured.stop();
  }
});
