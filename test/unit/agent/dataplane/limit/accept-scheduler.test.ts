import { describe, it } from 'node:test';
import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { AcceptScheduler } from '../../../../../agent/dataplane/limit/accept-scheduler.js';

/** `log`: who began, in the order of it, with `|` where a turn of the event loop ended. */
function start(): { turns: AcceptScheduler; log: string[]; open: (who: string, count: number) => void } {
  const turns = new AcceptScheduler({ nowMs: () => 0 });
  const log: string[] = [];
  const open = (who: string, count: number): void => {
    for (let at = 0; at < count; at++) turns.take(who, () => log.push(who));
  };
  return { turns, log, open };
}

async function untilAllBegan({ turns, log }: { turns: AcceptScheduler; log: string[] }): Promise<void> {
  while (turns.size > 0) {
    log.push('|');
    await nextTurn();
  }
}

describe('the turns of new connections', () => {
  it('begin a few at once', () => {
    const { turns, log, open } = start();
    open('a', 16);
    assert.equal(log.length, 16);
    assert.equal(turns.size, 0);
  });

  it('let the event loop go round between every sixteen of many', async () => {
    const state = start();
    state.open('a', 100);
    await untilAllBegan(state);
    const inEach = state.log
      .join('')
      .split('|')
      .map((began) => began.length);
    assert.equal(Math.max(...inEach), 16);
    assert.equal(
      inEach.reduce((sum, count) => sum + count, 0),
      100,
    );
  });

  it('let it go round as soon as those that began took a millisecond', async () => {
    let nowMs = 0;
    const turns = new AcceptScheduler({ nowMs: () => nowMs });
    const inEach: number[] = [0];
    for (let at = 0; at < 7; at++) {
      turns.take('a', () => {
        nowMs += 0.4;
        inEach[inEach.length - 1]! += 1;
      });
    }
    while (turns.size > 0) {
      inEach.push(0);
      await nextTurn();
    }
    assert.deepEqual(inEach, [3, 3, 1]);
  });

  it('let it go round as soon as the promises of those that waited took a millisecond', async () => {
    let nowMs = 0;
    const turns = new AcceptScheduler({ nowMs: () => nowMs });
    const inEach: number[] = [0];
    const work = (): void => {
      nowMs += 0.4;
      inEach[inEach.length - 1]! += 1;
    };
    for (let at = 0; at < 16 + 7; at++)
      turns.take('a', () => void Promise.resolve().then(async () => await Promise.resolve().then(work)));
    while (turns.size > 0) {
      inEach.push(0);
      await nextTurn();
    }
    // Those that began at once have their promises in the turn in which they came.
    assert.deepEqual(inEach, [0, 16 + 3, 3, 1]);
  });

  it('serve who wants one connection next, however many another one waits for', async () => {
    const state = start();
    state.open('many', 2000);
    state.open('one', 1);
    await untilAllBegan(state);
    const position = state.log.filter((entry) => entry !== '|').indexOf('one');
    assert.ok(position <= 17, `connection ${position} was its own`);
  });

  it('keep the order of the connections of one', async () => {
    const turns = new AcceptScheduler({ nowMs: () => 0 });
    const began: number[] = [];
    for (let at = 0; at < 50; at++) turns.take('a', () => began.push(at));
    while (turns.size > 0) await nextTurn();
    assert.deepEqual(
      began,
      Array.from({ length: 50 }, (_, at) => at),
    );
  });

  it('share the turns evenly among those who wait', async () => {
    const state = start();
    state.open('a', 100);
    state.open('b', 100);
    state.open('c', 100);
    await untilAllBegan(state);
    const first = state.log.filter((entry) => entry !== '|').slice(16, 16 + 90);
    const share = (who: string): number => first.filter((entry) => entry === who).length;
    assert.deepEqual([share('a'), share('b'), share('c')], [30, 30, 30]);
  });

  it('are over when no connection may wait any longer', () => {
    const { turns, log, open } = start();
    open('a', 100);
    open('b', 100);
    turns.beginAll();
    assert.equal(turns.size, 0);
    assert.equal(log.filter((entry) => entry !== '|').length, 200);
  });

  it('have room again in a later turn', async () => {
    const { turns, log, open } = start();
    open('a', 16);
    await nextTurn();
    open('a', 16);
    assert.equal(log.length, 32);
    assert.equal(turns.size, 0);
  });
});
