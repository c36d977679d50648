import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Timed, TimerWheel } from '../../../../../agent/dataplane/io/timer-wheel.js';

class Recorded extends Timed {
  readonly #due: () => void;
  constructor(due: () => void) {
    super();
    this.#due = due;
  }
  override onDue(): void {
    this.#due();
  }
}

/** The names of those that were due, in order. */
function wheel(slots = 8): { wheel: TimerWheel; due: string[]; timer: (name: string) => Timed } {
  const due: string[] = [];
  const made = new TimerWheel({ tickMs: 10, slots, nowMs: 1000 });
  return { wheel: made, due, timer: (name) => new Recorded(() => due.push(name)) };
}

test('each is due at its time, never before, and once', () => {
  const { wheel: timers, due, timer } = wheel();
  timers.set(timer('a'), 1050);
  timers.set(timer('b'), 1015);
  timers.set(timer('late'), 5000);
  timers.advance(1014);
  assert.deepEqual(due, []);
  timers.advance(1020);
  assert.deepEqual(due, ['b']);
  timers.advance(1049);
  assert.deepEqual(due, ['b']);
  timers.advance(1050);
  assert.deepEqual(due, ['b', 'a']);
  for (let ms = 1060; ms < 5000; ms += 10) timers.advance(ms);
  assert.deepEqual(due, ['b', 'a'], 'rounds of the wheel pass it over');
  timers.advance(5000);
  timers.advance(9000);
  assert.deepEqual([due, timers.size], [['b', 'a', 'late'], 0]);
});

test('one can be moved and taken off, also twice', () => {
  const { wheel: timers, due, timer } = wheel();
  const [moved, gone] = [timer('moved'), timer('gone')];
  timers.set(moved, 1020);
  timers.set(gone, 1020);
  timers.set(moved, 1100);
  timers.clear(gone);
  timers.clear(gone);
  timers.advance(1090);
  assert.deepEqual(due, []);
  timers.advance(1100);
  assert.deepEqual(due, ['moved']);
});

test('one that is due may set itself, take off its neighbours and set others', () => {
  const { wheel: timers, due, timer } = wheel();
  const neighbour = timer('neighbour');
  let left = 3;
  const again = new Recorded(() => {
    due.push('again');
    timers.clear(neighbour);
    if ((left -= 1) > 0) timers.set(again, 0);
  });
  timers.set(again, 1010);
  timers.set(neighbour, 1010);
  for (let ms = 1010; ms < 1200; ms += 10) timers.advance(ms);
  assert.deepEqual([due, timers.size], [['again', 'again', 'again'], 0]);
});

test('after a long sleep all that is past is due', () => {
  const { wheel: timers, due, timer } = wheel();
  for (let at = 0; at < 20; at += 1) timers.set(timer(String(at)), 1000 + 37 * at);
  timers.advance(1_000_000);
  assert.equal(due.length, 20);
  timers.set(timer('next'), 1_000_001);
  timers.advance(1_000_010);
  assert.equal(due.at(-1), 'next');
});

test('ten thousand at chance are due in the order of their ticks', () => {
  const timers = new TimerWheel({ tickMs: 10, slots: 64, nowMs: 0 });
  const due: number[] = [];
  let seed = 1;
  for (let at = 0; at < 10_000; at += 1) {
    seed = (seed * 48_271) % 0x7fffffff;
    const dueMs = seed % 20_000;
    timers.set(new Recorded(() => due.push(Math.max(10, Math.ceil(dueMs / 10) * 10))), dueMs);
  }
  for (let ms = 0; ms <= 20_000; ms += 10) {
    timers.advance(ms);
    assert.ok((due.at(-1) ?? 0) <= ms);
  }
  assert.deepEqual(
    due,
    due.toSorted((a, b) => a - b),
  );
  assert.equal(due.length, 10_000);
});
