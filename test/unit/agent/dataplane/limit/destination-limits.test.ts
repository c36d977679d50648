import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, it } from 'node:test';
import { Worker } from 'node:worker_threads';
import * as fc from 'fast-check';
import { DestinationUsage, type DestinationCount } from '../../../../../agent/dataplane/destination-usage.js';
import { DestinationLimits, type DestinationPlace } from '../../../../../agent/dataplane/limit/destination-limits.js';
import { maxDestinations, WorkloadUsage } from '../../../../../agent/dataplane/workload-usage.js';
import { countedDestination } from '../../../../../agent/dataplane/report/counted-destination.js';
import type { LastPlaces } from '../../../../support/agent/last-place-thread.js';
import { propertyRuns } from '../../../../support/property-runs.js';

const web = countedDestination(
  { namespace: 'shop', name: 'limits' },
  { namespace: 'shop', name: 'web' },
  { subset: null, dialledPort: 80 },
);

function workers(count: number, buffer = WorkloadUsage.allocate(count)) {
  return Array.from(
    { length: count },
    (_, workerIndex) => new DestinationUsage({ buffer, workers: count, workerIndex }),
  );
}

function ofOwnClient(key: string) {
  return { key, client: `shop/${key}` };
}

/** Counts one more, and returns how many there are then. */
function add(usage: DestinationUsage, destination: string, what: DestinationCount = 'open'): number {
  assert.ok(usage.take(ofOwnClient(destination), what) !== null);
  return counted(usage, destination, what);
}

function counted(usage: DestinationUsage, destination: string, what: DestinationCount = 'open'): number {
  for (let most = 0; ; most++) {
    const place = usage.take(ofOwnClient(destination), what, most + 1);
    place?.leave();
    if (place !== null) return most;
  }
}

/** For each round, how many of the threads that asked at the same instant got the one place. */
async function lastPlaces(asked: Pick<LastPlaces, 'rounds' | 'hasNames'>): Promise<number[]> {
  const count = 2;
  const usage = WorkloadUsage.allocate(count);
  const [first] = workers(count, usage);
  if (asked.hasNames) for (let at = 0; at < maxDestinations; at++) first?.take(ofOwnClient(`d${at}`), 'open')?.leave();
  const counts = new SharedArrayBuffer((1 + asked.rounds) * Int32Array.BYTES_PER_ELEMENT);
  const threads = Array.from({ length: count }, (_, workerIndex) => {
    const workerData: LastPlaces = { usage, counts, workers: count, workerIndex, ...asked };
    return new Worker(new URL('../../../../support/agent/last-place-thread.js', import.meta.url), { workerData });
  });
  await Promise.all(threads.map(async (thread) => await once(thread, 'exit')));
  return [...new Int32Array(counts).subarray(1)];
}

describe('the connections to a destination', () => {
  it('are counted over all workers, and those of a dead worker are not', () => {
    const buffer = WorkloadUsage.allocate(2);
    const [first, second] = workers(2, buffer) as [DestinationUsage, DestinationUsage];
    assert.deepEqual([add(first, 'a'), add(second, 'a'), add(first, 'a')], [1, 2, 3]);
    assert.deepEqual([add(second, 'b'), add(second, 'a', 'pending')], [1, 1]);
    new WorkloadUsage({ buffer, workers: 2 }).clearWorker(0);
    assert.deepEqual([counted(second, 'a'), counted(second, 'b'), counted(second, 'a', 'pending')], [1, 1, 1]);
  });

  it('do not touch what is counted of workloads', () => {
    const buffer = WorkloadUsage.allocate(2);
    const usage = new WorkloadUsage({ buffer, workers: 2 });
    for (const worker of workers(2, buffer)) for (let at = 0; at < 500; at++) add(worker, `d${at}`);
    for (let slot = 0; slot < 4096; slot += 5) assert.equal(usage.connections(slot) + usage.waitingBytes(slot), 0);
    assert.deepEqual(usage.waitingInAll(), { bytes: 0, slots: 0 });
  });

  it('are counted by each worker where there are more destinations with connections than slots', () => {
    const [first, second] = workers(2) as [DestinationUsage, DestinationUsage];
    for (let at = 0; at < maxDestinations; at++) assert.equal(add(first, `d${at}`), 1);
    const place = first.take(ofOwnClient('more'), 'open', 1);
    assert.ok(place !== null);
    assert.deepEqual(
      [first.take(ofOwnClient('more'), 'open', 1), add(first, 'more'), add(second, 'more')],
      [null, 2, 1],
    );
    assert.equal(add(second, `d${maxDestinations - 1}`), 2);
    place.leave();
    place.leave();
    assert.equal(counted(first, 'more'), 1);
  });

  it('are counted by each worker for a client that uses its share of the slots, and together for others', () => {
    const [first, second] = workers(2) as [DestinationUsage, DestinationUsage];
    for (let at = 0; at < maxDestinations; at++) first.take({ key: `d${at}`, client: 'shop/greedy' }, 'open');
    assert.deepEqual([add(first, 'other'), add(second, 'other')], [1, 2]);
    const ofGreedy = { key: 'of greedy', client: 'shop/greedy' };
    assert.ok(first.take(ofGreedy, 'open', 1) !== null);
    assert.equal(first.take(ofGreedy, 'open', 1), null);
  });

  it('have the slot of one that has none any more, so that names never run out', () => {
    const [first, second] = workers(2) as [DestinationUsage, DestinationUsage];
    const held = second.take(ofOwnClient('held'), 'open', 1);
    for (let at = 0; at < 2 * maxDestinations; at++) first.take(ofOwnClient(`d${at}`), 'open')?.leave();
    for (const name of ['d0', 'd1', `d${2 * maxDestinations - 1}`, 'more']) {
      assert.deepEqual([add(first, name), add(second, name), add(first, name)], [1, 2, 3], name);
    }
    assert.equal(first.take(ofOwnClient('held'), 'open', 1), null);
    held?.leave();
    first.take(ofOwnClient('held'), 'open', 1)?.leave();
  });

  it('can go on when a worker dies while it gives a slot another name', () => {
    const buffer = WorkloadUsage.allocate(2);
    const [first, second] = workers(2, buffer) as [DestinationUsage, DestinationUsage];
    for (let at = 0; at < maxDestinations; at++) first.take(ofOwnClient(`d${at}`), 'open')?.leave();
    const { store } = Atomics;
    Atomics.store = () => {
      throw new Error('dies here');
    };
    try {
      assert.throws(() => second.take(ofOwnClient('more'), 'open'), /dies here/);
    } finally {
      Atomics.store = store;
    }
    new WorkloadUsage({ buffer, workers: 2 }).clearWorker(1);
    assert.deepEqual([add(first, 'more'), add(second, 'more')], [1, 2]);
  });

  it('of which several threads ask for the last at the same instant are taken by one', async () => {
    const taken = await lastPlaces({ rounds: 2000, hasNames: false });
    assert.deepEqual([taken.length, new Set(taken)], [2000, new Set([1])]);
  });

  it('whose slots all have names are counted together, also by threads that give one another name at once', async () => {
    const taken = await lastPlaces({ rounds: 2000, hasNames: true });
    assert.deepEqual([taken.length, new Set(taken)], [2000, new Set([1])]);
  });
});

describe('a limit of connections to a destination', () => {
  it('is kept for random connections of several workers, and every place comes back', () => {
    const step = fc.record({ worker: fc.nat(2), what: fc.constantFrom('enter', 'connected', 'leave'), at: fc.nat(20) });
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 60 }),
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        (steps, max, maxPending) => {
          const usage = workers(3);
          const limits = usage.map((each) => new DestinationLimits({ usage: each }));
          const places: { place: DestinationPlace; isPending: boolean }[] = [];
          for (const { worker, what, at } of steps) {
            const chosen = places[at % Math.max(1, places.length)];
            if (what === 'enter') {
              const pending = places.filter(({ isPending }) => isPending).length;
              const place = limits[worker]!.enter(web, { max, maxPending }, 'shop/api');
              const isFull = places.length >= max || pending >= maxPending;
              assert.equal(typeof place === 'string', isFull);
              if (typeof place !== 'string' && place !== null) places.push({ place, isPending: true });
            } else if (chosen !== undefined && what === 'connected') {
              chosen.place.connected();
              chosen.isPending = false;
            } else if (chosen !== undefined) {
              chosen.place.leave();
              chosen.place.leave();
              places.splice(places.indexOf(chosen), 1);
            }
          }
          for (const { place } of places) place.leave();
          assert.deepEqual([counted(usage[0]!, web.key), counted(usage[0]!, web.key, 'pending')], [0, 0]);
        },
      ),
      { numRuns: propertyRuns(200) },
    );
  });

  it('counts the connections under one rule, and none of those under another', () => {
    const [usage] = workers(1) as [DestinationUsage];
    const limits = new DestinationLimits({ usage });
    const ofOther = countedDestination(
      { namespace: 'billing', name: 'limits' },
      { namespace: 'shop', name: 'web' },
      { subset: null, dialledPort: 80 },
    );
    assert.ok(typeof limits.enter(ofOther, { max: 1 }, 'shop/api') === 'object');
    assert.ok(typeof limits.enter(web, { max: 1 }, 'shop/api') === 'object');
    assert.equal(
      limits.enter(web, { max: 1 }, 'shop/api'),
      '1 connections to shop/web:80 are open, the limit (maxConnections of DestinationRule shop/limits)',
    );
  });

  it('counts nothing where there is none', () => {
    const usage = { take: () => assert.fail('counted') };
    assert.equal(new DestinationLimits({ usage }).enter(web, { connectTimeoutMs: 5 }, 'shop/api'), null);
  });
});
