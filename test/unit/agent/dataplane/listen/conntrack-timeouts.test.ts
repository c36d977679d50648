import assert from 'node:assert/strict';
import { test } from 'node:test';
import { probingWithin } from '../../../../../agent/dataplane/listen/conntrack-timeouts.js';

const usual = { established: 432_000, fin_wait: 120, close_wait: 60, max_retrans: 300, unacknowledged: 300 };

const rows: readonly {
  readonly what: string;
  readonly timeouts: Partial<typeof usual>;
  readonly openSeconds: number;
  readonly halfClosedSeconds: number;
}[] = [
  { what: 'as by default', timeouts: {}, openSeconds: 32_767, halfClosedSeconds: 20 },
  { what: 'an hour while open', timeouts: { established: 3600 }, openSeconds: 1200, halfClosedSeconds: 20 },
  { what: 'seconds while open', timeouts: { established: 10 }, openSeconds: 3, halfClosedSeconds: 3 },
  {
    what: 'less than the watch needs to notice, once half-closed: it is probed for that from the start',
    timeouts: { close_wait: 10 },
    openSeconds: 3,
    halfClosedSeconds: 3,
  },
  { what: 'the least that can be kept', timeouts: { established: 3 }, openSeconds: 1, halfClosedSeconds: 1 },
  { what: 'less than the kernel can probe', timeouts: { fin_wait: 1 }, openSeconds: 1, halfClosedSeconds: 1 },
  {
    what: 'for hours once half-closed: an application that has gone is noticed all the same',
    timeouts: { fin_wait: 7200, close_wait: 7200, max_retrans: 7200, unacknowledged: 7200 },
    openSeconds: 32_767,
    halfClosedSeconds: 60,
  },
];
for (const { what, timeouts, openSeconds, halfClosedSeconds } of rows) {
  test(`entries that last ${what} are kept by a probe every ${openSeconds} s, and every ${halfClosedSeconds} s once half-closed`, () => {
    const longestRetransmitMs = halfClosedSeconds * 1000;
    assert.deepEqual(probingWithin({ ...usual, ...timeouts }), {
      open: { everySeconds: openSeconds, longestRetransmitMs },
      halfClosed: { everySeconds: halfClosedSeconds, longestRetransmitMs },
    });
  });
}
