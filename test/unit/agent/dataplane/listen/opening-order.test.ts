import assert from 'node:assert/strict';
import { describe, mock, test } from 'node:test';
import * as fc from 'fast-check';
import { OpeningOrder } from '../../../../../agent/dataplane/listen/opening-order.js';

const workers = 4;

/** Connections open in the order of a queue at each worker; several workers open in any order. */
class Workers {
  readonly order: OpeningOrder;
  readonly opened: { readonly key: string; readonly at: number; readonly worker: number }[] = [];
  readonly queues: { readonly key: string; readonly at: number }[][] = Array.from({ length: workers }, () => []);
  readonly load = Array.from({ length: workers }, () => 0);
  nowMs = 0;
  #others = new Set([1, 2, 3]);

  constructor() {
    this.order = new OpeningOrder({
      own: 0,
      others: () => this.#others,
      load: (worker) => this.load[worker] ?? 0,
      nowMs: () => this.nowMs,
    });
  }

  take(key: string, at: number): void {
    this.order.take(key, 0, (worker) => {
      this.queues[worker]?.push({ key, at });
      this.load[worker]! += 1;
    });
  }

  open(worker: number): void {
    const next = this.queues[worker]?.shift();
    if (next === undefined) return;
    this.opened.push({ ...next, worker });
    this.order.opened(next.key);
  }

  openAll(): void {
    for (let left = 0; this.queues.some(({ length }) => length > 0); left = (left + 1) % workers) this.open(left);
  }

  die(worker: number): void {
    this.#others.delete(worker);
    this.queues[worker] = [];
    this.load[worker] = 0;
    this.order.lost(worker);
  }
}

describe('the order of opening', () => {
  test('is that of the accepts for each source and destination, whichever workers open them and when', () => {
    const step = fc.oneof(
      { weight: 3, arbitrary: fc.record({ take: fc.constantFrom('a', 'b', 'c') }) },
      { weight: 2, arbitrary: fc.record({ open: fc.nat(workers - 1) }) },
      { weight: 1, arbitrary: fc.record({ end: fc.nat(workers - 1) }) },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const world = new Workers();
        const taken = new Map<string, number>();
        for (const next of steps) {
          if ('open' in next) world.open(next.open);
          else if ('end' in next) world.load[next.end] = 0;
          else {
            const at = taken.get(next.take) ?? 0;
            taken.set(next.take, at + 1);
            world.take(next.take, at);
          }
        }
        world.openAll();
        for (const [key, count] of taken) {
          const order = world.opened.filter((one) => one.key === key).map(({ at }) => at);
          assert.deepEqual(order, [...Array.from({ length: count }).keys()]);
        }
        world.order.openAll();
      }),
    );
  });

  test('leaves a connection that none precedes with this worker', () => {
    const world = new Workers();
    for (let at = 0; at < 20; at++) {
      world.take('a', at);
      world.openAll();
      world.load[0] = 0;
    }
    assert.ok(world.opened.every(({ worker }) => worker === 0));
  });

  test('spreads those that stay over the workers, opened at once or one by one', () => {
    for (const isAtOnce of [true, false]) {
      const world = new Workers();
      for (let at = 0; at < 80; at++) {
        world.take('a', at);
        if (!isAtOnce) world.openAll();
      }
      world.openAll();
      assert.ok(Math.min(...world.load) >= 8 && Math.max(...world.load) <= 32, world.load.join());
    }
  });

  test('keeps a flood of short connections with one worker', () => {
    const world = new Workers();
    for (let at = 0; at < 2000; at++) {
      world.take('a', at);
      // Eight are open or on their way at a time.
      while (at - world.opened.length >= 8) world.open(world.queues.findIndex(({ length }) => length > 0));
      world.load.fill(0);
    }
    world.openAll();
    const others = world.opened.filter(({ worker }) => worker !== 0);
    assert.ok(others.length < 100, `${others.length} of 2000 were passed`);
    world.order.openAll();
  });

  test('does not wait for a destination that does not answer', (t) => {
    mock.timers.enable({ apis: ['setTimeout'] });
    t.after(() => mock.timers.reset());
    const world = new Workers();
    for (let at = 0; at < 200; at++) world.take('a', at);
    assert.equal(world.queues[0]?.length, 2);
    // A connection to another address does not wait.
    world.take('b', 0);
    assert.deepEqual(world.queues[1], [{ key: 'b', at: 0 }]);
    const pass = (ms: number): void => {
      world.nowMs += ms;
      mock.timers.tick(ms);
    };
    pass(99);
    assert.equal(world.queues[0]?.length, 2);
    pass(1);
    for (const given of [4, 8, 16, 32, 64, 128, 200]) {
      assert.equal(world.queues[0]?.length, given);
      pass(100);
    }
    // Whatever comes later to a destination that is never reached waits for a second in all, and a small part of the time.
    pass(10_000);
    for (let at = 200; at < 10_000; at++) {
      world.take('a', at);
      pass(1);
    }
    pass(100);
    assert.equal(world.queues[0]?.length, 10_000);
  });

  test('waits longer while others of the run open', (t) => {
    mock.timers.enable({ apis: ['setTimeout'] });
    t.after(() => mock.timers.reset());
    const world = new Workers();
    for (let at = 0; at < 10; at++) world.take('a', at);
    for (const ms of [90, 90]) {
      world.nowMs += ms;
      mock.timers.tick(ms);
      world.open(0);
    }
    assert.equal(world.queues[1]?.length, 2);
  });

  test('does not wait for a worker that died', () => {
    const world = new Workers();
    world.load[0] = 10;
    for (let at = 0; at < 8; at++) world.take('a', at);
    assert.equal(world.queues[1]?.length, 2);
    world.die(1);
    world.openAll();
    assert.deepEqual(
      world.opened.map(({ at }) => at),
      [2, 3, 4, 5, 6, 7],
    );
  });

  test('opens everything here and now for a drain', () => {
    const world = new Workers();
    for (let at = 0; at < 20; at++) world.take('a', at);
    world.order.openAll();
    assert.deepEqual(
      world.queues[0]?.map(({ at }) => at),
      [...Array.from({ length: 20 }).keys()],
    );
  });
});
