import assert from 'node:assert/strict';
import { test } from 'node:test';
import { probingWithin } from '../../../../../agent/dataplane/listen/conntrack-timeouts.js';

const rows: readonly { readonly timeoutSeconds: number; readonly everySeconds: number; readonly why: string }[] = [
  { timeoutSeconds: 60, everySeconds: 20, why: "the kernel's default of close_wait" },
  { timeoutSeconds: 10, everySeconds: 3, why: 'a host that forgets connections after seconds' },
  { timeoutSeconds: 3, everySeconds: 1, why: 'the least that can be kept' },
  { timeoutSeconds: 1, everySeconds: 1, why: 'less than the kernel can probe' },
  { timeoutSeconds: 432_000, everySeconds: 60, why: 'an application that has gone is noticed all the same' },
];
for (const { timeoutSeconds, everySeconds, why } of rows) {
  test(`entries that last ${timeoutSeconds} s are kept by a probe every ${everySeconds} s: ${why}`, () => {
    assert.deepEqual(probingWithin(timeoutSeconds), {
      idleSeconds: everySeconds,
      intervalSeconds: everySeconds,
      count: 127,
      longestRetransmitMs: everySeconds * 1000,
    });
  });
}
