import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TimeSlices } from '../../../../agent/thread/time-slices.js';

/** Items between two looks at the clock, at most. */
const itemsPerSlice = 16;

function work(ms: number): void {
  const endMs = performance.now() + ms;
  while (performance.now() < endMs) {
    // Busy.
  }
}

test('slow items give the event loop a turn after a few of them, not after a count', async () => {
  let turns = 0;
  const beat = setInterval(() => (turns += 1), 0);
  const slices = new TimeSlices();
  const items = 20 * itemsPerSlice;
  for (let item = 0; item < items; item++) {
    work(0.5);
    if (slices.isOver) await slices.pause();
  }
  clearInterval(beat);
  // 16 items take 8 ms, which is more than a slice.
  assert.ok(turns >= 10, `${turns} turns`);
});

test('work that takes no time needs no pause', () => {
  const slices = new TimeSlices();
  for (let item = 1; item < itemsPerSlice; item++) assert.equal(slices.isOver, false);
});
