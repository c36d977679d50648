import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { setImmediate as turn } from 'node:timers/promises';
import { FrameTurns, type FrameBacklog } from '../../../../../agent/dataplane/engine/lean/frame-turns.js';

/** Each call of `handle` takes 0.4 ms of a clock that nothing else moves. */
class Frames {
  readonly turns: FrameTurns;
  readonly handled: string[] = [];
  #nowMs = 0;

  constructor() {
    this.turns = new FrameTurns({ nowMs: () => this.#nowMs });
  }

  of(name: string, left: number): FrameBacklog {
    return {
      handle: (mostFrames) => {
        this.#nowMs += 0.4;
        this.handled.push(name);
        left -= mostFrames;
        return left > 0;
      },
    };
  }
}

describe('frames that were too many for a turn', () => {
  it('get about a millisecond in each of the next ones', async () => {
    const frames = new Frames();
    frames.turns.wait(frames.of('many', 64 * 7));
    assert.equal(frames.handled.length, 0, 'nothing in this turn');
    for (const wanted of [3, 6, 7, 7]) {
      await turn();
      assert.equal(frames.handled.length, wanted);
    }
  });

  it('take turns with those of other connections, which come to their end', async () => {
    const frames = new Frames();
    frames.turns.wait(frames.of('a', 64 * 4));
    frames.turns.wait(frames.of('b', 64 * 2));
    while (frames.handled.length < 6) await turn();
    assert.deepEqual(frames.handled.join(''), 'ababaa');
  });

  it('are left alone when the connection has gone', async () => {
    const frames = new Frames();
    const [gone, other] = [frames.of('gone', 64 * 9), frames.of('other', 64)];
    frames.turns.wait(gone);
    frames.turns.wait(other);
    frames.turns.leave(gone);
    await turn();
    await turn();
    assert.deepEqual(frames.handled, ['other']);
  });
});
