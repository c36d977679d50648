import assert from 'node:assert/strict';
import { it } from 'node:test';
import * as fc from 'fast-check';
import { OwnRate, slowest } from '../../../../../agent/dataplane/limit/own-rate.js';

it('a sender that waits as long as it is told keeps the rate, however much each read brings', () => {
  const reads = fc.array(fc.integer({ min: 1, max: 65_536 }), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(fc.integer({ min: 1024, max: 1_000_000 }), reads, (bytesPerSecond, sizes) => {
      let nowNs = 5_000_000_000n;
      const rate = new OwnRate({ bytesPerSecond, nowNs: () => nowNs });
      const fromNs = nowNs;
      let sent = 0;
      for (const bytes of sizes) {
        sent += bytes;
        nowNs += BigInt(Math.ceil(rate.spend(bytes) * 1e6));
      }
      const seconds = Number(nowNs - fromNs) / 1e9;
      // A twentieth of a second is ahead, and no more.
      assert.ok(sent <= bytesPerSecond * (seconds + 0.0501), `${sent} bytes in ${seconds} s`);
      assert.ok(seconds <= sent / bytesPerSecond + 0.001, `${seconds} s for ${sent} bytes`);
    }),
  );
});

it('a sender that paused has no more ahead than a twentieth of a second', () => {
  let nowNs = 0n;
  const rate = new OwnRate({ bytesPerSecond: 1000, nowNs: () => nowNs });
  assert.equal(rate.spend(50), 0);
  nowNs = 3_600_000_000_000n;
  assert.equal(rate.spend(50), 0);
  assert.equal(Math.round(rate.spend(1000)), 1000);
  rate.giveBack(1000);
  assert.equal(Math.round(rate.spend(500)), 500);
});

it('of two that bound a direction the slower counts, and both are told', () => {
  const seen: number[] = [];
  const of = (waitMs: number) => ({
    spend: (bytes: number) => (seen.push(bytes), waitMs),
    giveBack: (bytes: number) => void seen.push(-bytes),
  });
  assert.equal(slowest(null, of(3)).spend(10), 3);
  assert.equal(slowest(of(5), of(3)).spend(20), 5);
  assert.equal(slowest(of(5), of(7)).spend(20), 7);
  slowest(of(5), of(7)).giveBack(20);
  assert.deepEqual(seen, [10, 20, 20, 20, 20, -20, -20]);
});
