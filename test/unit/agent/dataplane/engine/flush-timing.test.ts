import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { FlushTiming } from '../../../../../agent/dataplane/engine/lean/flush-timing.js';

type Wish = ConstructorParameters<typeof FlushTiming>[0];

/** Its turns end where the event loop's do. */
function timingOf(init: Omit<Wish, 'wantTurn'>): FlushTiming {
  let isWanted = false;
  const timing: FlushTiming = new FlushTiming({
    ...init,
    wantTurn: () => {
      if (isWanted) return;
      isWanted = true;
      setImmediate(() => {
        isWanted = false;
        timing.endTurn();
      });
    },
  });
  return timing;
}

/** What asks for a flush again in each turn of the event loop, and in how many of ten turns there was one. */
async function flushesInTenTurns(options: { mayWait: boolean; bytes: number }): Promise<number> {
  let flushes = 0;
  const timing = timingOf({
    flush: () => {
      flushes += 1;
      timing.sent({ isMoreLeft: false });
    },
    mayWait: () => options.mayWait,
  });
  for (let turn = 0; turn < 10; turn++) {
    timing.request(options.bytes);
    await nextTurn();
  }
  return flushes;
}

describe('the time of a flush', () => {
  it('is the end of the turn when there is nothing to wait for', async () => {
    assert.equal(await flushesInTenTurns({ mayWait: false, bytes: 100 }), 10);
  });

  it('is the end of the turn when there is much to send', async () => {
    assert.equal(await flushesInTenTurns({ mayWait: true, bytes: 16_384 }), 10);
  });

  it('is put off for two turns at most while more keeps coming', async () => {
    assert.equal(await flushesInTenTurns({ mayWait: true, bytes: 100 }), 3);
  });

  it('is put off for one turn in which nothing more comes', async () => {
    const turns: number[] = [];
    let turn = 0;
    const timing = timingOf({ flush: () => turns.push(turn), mayWait: () => true });
    timing.request(100);
    for (; turn < 5; turn++) await nextTurn();
    assert.equal(turns.length, 1);
    assert.ok(turns[0]! <= 2, `flushed in turn ${turns[0]}`);
  });

  it('is at once for what one write did not take', async () => {
    const timing = timingOf({ flush: () => {}, mayWait: () => true });
    timing.request(100);
    assert.equal(timing.isUrgent, false);
    timing.sent({ isMoreLeft: true });
    assert.equal(timing.isUrgent, true);
    timing.sent({ isMoreLeft: false });
    assert.equal(timing.isUrgent, false);
    await nextTurn();
  });
});
