import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { bucketOf, byteBucketOf, dueAfter, takeOne } from '../../../../../agent/dataplane/limit/token-bucket.js';
import { propertyRuns } from '../../../../support/property-runs.js';

/** As one would write it down: whole nanoseconds that have come back, up to the burst. */
class NaiveBucket {
  #stored: bigint;
  #atNs = 0n;

  constructor(
    readonly eachNs: bigint,
    readonly burst: bigint,
  ) {
    this.#stored = eachNs * burst;
  }

  take(nowNs: bigint): boolean {
    const whole = this.eachNs * this.burst;
    this.#stored = this.#stored + nowNs - this.#atNs;
    if (this.#stored > whole) this.#stored = whole;
    this.#atNs = nowNs;
    if (this.#stored < this.eachNs) return false;
    this.#stored -= this.eachNs;
    return true;
  }
}

/** How many of those that come at these times are taken. */
function taken(times: readonly bigint[], perSecond: number, burst: number): boolean[] {
  const bucket = bucketOf({ perSecond, burst });
  let due = 0n;
  return times.map((now) => {
    const next = takeOne(due, now, bucket);
    due = next.due;
    return next.isTaken;
  });
}

describe('a token bucket in one number', () => {
  it('takes what a bucket takes that is written out, whatever comes when', () => {
    const gap = fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 5_000_000 }), fc.integer({ min: 0, max: 3e9 }));
    fc.assert(
      fc.property(
        fc.array(gap, { maxLength: 200 }),
        fc.double({ min: 0.5, max: 5000, noNaN: true }),
        fc.integer({ min: 1, max: 50 }),
        (gaps, perSecond, burst) => {
          let now = 10n ** 12n;
          const times = gaps.map((each) => (now += BigInt(each)));
          const naive = new NaiveBucket(bucketOf({ perSecond, burst }).eachNs, BigInt(burst));
          assert.deepEqual(
            taken(times, perSecond, burst),
            times.map((time) => naive.take(time)),
          );
        },
      ),
      { numRuns: propertyRuns(300) },
    );
  });

  it('takes the burst and then the rate, also less than one a second', () => {
    const every = (ms: number, count: number) => Array.from({ length: count }, (_, at) => BigInt(at * ms) * 1_000_000n);
    assert.equal(taken(every(1, 10_000), 12, 20).filter(Boolean).length, 20 + 119);
    assert.equal(taken(every(100, 1000), 0.1, 1).filter(Boolean).length, 10);
  });

  it('is empty at most where it had other numbers before, and fills from then on', () => {
    const now = 5n * 10n ** 9n;
    const slow = bucketOf({ perSecond: 0.001, burst: 1000 });
    const fast = bucketOf({ perSecond: 10, burst: 5 });
    const { due } = takeOne(0n, now, slow);
    const changed = takeOne(due, now, fast);
    assert.deepEqual(changed, { due: now + fast.wholeNs, isTaken: false });
    assert.equal(takeOne(changed.due, now + fast.eachNs - 1n, fast).isTaken, false);
    assert.equal(takeOne(changed.due, now + fast.eachNs, fast).isTaken, true);
  });
});

describe('a budget of bytes', () => {
  it('lets several senders move together what the rate says, whatever they send at once', () => {
    const sizes = fc.array(fc.integer({ min: 1, max: 262_144 }), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(sizes, fc.integer({ min: 65_536, max: 1_000_000_000 }), (pieces, bytesPerSecond) => {
        const bucket = byteBucketOf(bytesPerSecond);
        const from = 10n ** 12n;
        const until = from + 10n ** 10n;
        // Each sends a piece whenever it may; the one whose turn is next goes first.
        const next = pieces.map(() => from);
        let [due, moved] = [0n, 0];
        for (let step = 0; step < 20_000; step++) {
          const at = next.indexOf(next.reduce((a, b) => (b < a ? b : a)));
          const now = next[at] ?? until;
          if (now >= until) break;
          const bytes = pieces[at] ?? 0;
          const after = dueAfter(due, now, { bytes, bucket });
          due = after.due;
          next[at] = now + (after.waitNs > 0n ? after.waitNs : 1n);
          moved += bytes;
        }
        const most = 10 * bytesPerSecond + Math.max(65_536, bytesPerSecond / 20) + pieces.reduce((a, b) => a + b, 0);
        assert.ok(moved <= most * 1.001, `${moved} of ${most}`);
      }),
      { numRuns: propertyRuns(50) },
    );
  });
});
