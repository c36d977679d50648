import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { DestinationUsage } from '../../../../../agent/dataplane/destination-usage.js';
import { DestinationLimits, type DestinationPlace } from '../../../../../agent/dataplane/limit/destination-limits.js';
import { maxDestinations, WorkloadUsage } from '../../../../../agent/dataplane/workload-usage.js';
import { countedDestination } from '../../../../../agent/dataplane/report/counted-destination.js';
import { propertyRuns } from '../../../../support/property-runs.js';

const web = countedDestination({ namespace: 'shop', name: 'limits' }, 'shop/web', 80);

function workers(count: number, buffer = WorkloadUsage.allocate(count)) {
  return Array.from(
    { length: count },
    (_, workerIndex) => new DestinationUsage({ buffer, workers: count, workerIndex }),
  );
}

describe('the connections to a destination', () => {
  it('are counted over all workers, and those of a dead worker are not', () => {
    const buffer = WorkloadUsage.allocate(2);
    const [first, second] = workers(2, buffer) as [DestinationUsage, DestinationUsage];
    assert.deepEqual([first.add('a', 'open', 1), second.add('a', 'open', 1), first.add('a', 'open', 1)], [1, 2, 3]);
    assert.deepEqual([second.add('b', 'open', 1), second.add('a', 'pending', 1)], [1, 1]);
    new WorkloadUsage({ buffer, workers: 2 }).clearWorker(0);
    assert.equal(second.add('a', 'open', -1), 0);
  });

  it('do not touch what is counted of workloads', () => {
    const buffer = WorkloadUsage.allocate(2);
    const usage = new WorkloadUsage({ buffer, workers: 2 });
    for (const worker of workers(2, buffer)) for (let at = 0; at < 500; at++) worker.add(`d${at}`, 'open', 1);
    for (let slot = 0; slot < 4096; slot += 5) assert.equal(usage.connections(slot) + usage.waitingBytes(slot), 0);
    assert.deepEqual(usage.waitingInAll(), { bytes: 0, slots: 0 });
  });

  it('are counted by each worker where there are more destinations than slots', () => {
    const [first, second] = workers(2) as [DestinationUsage, DestinationUsage];
    for (let at = 0; at < maxDestinations; at++) assert.equal(first.add(`d${at}`, 'open', 1), 1);
    assert.deepEqual(
      [first.add('more', 'open', 1), first.add('more', 'open', 1), second.add('more', 'open', 1)],
      [1, 2, 1],
    );
    assert.equal(second.add(`d${maxDestinations - 1}`, 'open', 1), 2);
    assert.equal(first.add('more', 'open', -1), 1);
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
              const place = limits[worker]!.enter(web, { max, maxPending });
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
          assert.deepEqual([usage[0]!.add(web.key, 'open', 1), usage[0]!.add(web.key, 'pending', 1)], [1, 1]);
        },
      ),
      { numRuns: propertyRuns(200) },
    );
  });

  it('counts the connections under one rule, and none of those under another', () => {
    const [usage] = workers(1) as [DestinationUsage];
    const limits = new DestinationLimits({ usage });
    const ofOther = countedDestination({ namespace: 'billing', name: 'limits' }, 'shop/web', 80);
    assert.ok(typeof limits.enter(ofOther, { max: 1 }) === 'object');
    assert.ok(typeof limits.enter(web, { max: 1 }) === 'object');
    assert.equal(
      limits.enter(web, { max: 1 }),
      '1 connections to shop/web:80 are open, the limit (maxConnections of DestinationRule shop/limits)',
    );
  });

  it('counts nothing where there is none', () => {
    const usage = { add: () => assert.fail('counted') };
    assert.equal(new DestinationLimits({ usage }).enter(web, { connectTimeoutMs: 5 }), null);
  });
});
