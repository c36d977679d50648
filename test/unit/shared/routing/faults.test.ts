import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { RouteFaults } from '../../../../shared/policy/traffic-documents.js';
import { drawnFaults, type DrawnFaults } from '../../../../shared/routing/faults.js';
import { RandomChoices } from '../../../support/mesh/random-choices.js';

const nowMs = 1000;
const all = (percent: number, expiresAtMs?: number): RouteFaults => {
  const share = { percent, ...(expiresAtMs === undefined ? {} : { expiresAtMs }) };
  return { delay: { ...share, delayMs: 5 }, abort: share, throttle: { ...share, bytesPerSecond: 7 } };
};
const drawn = (faults: RouteFaults, random: () => number): DrawnFaults | null => drawnFaults(faults, { nowMs, random });
const everything = { delayMs: 5, isAborted: true, bytesPerSecond: 7 };

describe('the faults of a connection', () => {
  it('are drawn in the shares of the document, each by itself', () => {
    const random = new RandomChoices({ seed: 14 });
    const faults = {
      delay: { percent: 30, delayMs: 5 },
      abort: { percent: 0.5 },
      throttle: { percent: 50, bytesPerSecond: 7 },
    };
    const times = 100_000;
    const counts = { delay: 0, abort: 0, throttle: 0, delayAndThrottle: 0, none: 0 };
    for (let i = 0; i < times; i++) {
      const one = drawn(faults, () => random.next());
      if (one === null) counts.none += 1;
      if (one?.delayMs === 5) counts.delay += 1;
      if (one?.isAborted === true) counts.abort += 1;
      if (one?.bytesPerSecond === 7) counts.throttle += 1;
      if (one?.delayMs === 5 && one.bytesPerSecond === 7) counts.delayAndThrottle += 1;
    }
    const shares = { delay: 0.3, abort: 0.005, throttle: 0.5, delayAndThrottle: 0.15, none: 0.7 * 0.995 * 0.5 };
    for (const [what, share] of Object.entries(shares)) {
      // Three standard deviations; the seed is fixed.
      const tolerance = 3 * Math.sqrt(times * share * (1 - share));
      const count = counts[what as keyof typeof counts];
      assert.ok(Math.abs(count - times * share) <= tolerance, `${what}: ${count} of ${times}, not ${share}`);
    }
  });

  it('are all with 100 and none with 0, at the ends of chance too', () => {
    for (const chance of [0, 0.5, 1 - 2 ** -53]) {
      assert.deepEqual(
        drawn(all(100), () => chance),
        everything,
      );
      assert.equal(
        drawn(all(0), () => chance),
        null,
      );
    }
  });

  it('are none from the instant on that expiresAt names', () => {
    assert.deepEqual(
      drawn(all(100, nowMs + 1), () => 0),
      everything,
    );
    assert.equal(
      drawn(all(100, nowMs), () => 0),
      null,
    );
    assert.equal(
      drawn(all(100, nowMs - 1), () => 0),
      null,
    );
  });

  it('draw nothing where none is written', () => {
    assert.equal(
      drawn({}, () => assert.fail('was asked')),
      null,
    );
  });
});
