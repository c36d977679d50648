import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Arrivals } from '../../../../../agent/dataplane/state/arrivals.js';
import { workloadNamed } from '../../../../support/routing/names.js';

const [web, db] = [workloadNamed('shop/web'), workloadNamed('shop/db')];

test('connections wait for a workload for two seconds in all, and then no more until it was ready', () => {
  const arrivals = new Arrivals();
  assert.equal(arrivals.join(web, 10_000), 12_000);
  assert.equal(arrivals.join(web, 11_500), 12_000, 'the next one too');
  assert.equal(arrivals.join(db, 11_500), 13_500, 'each workload for itself');
  arrivals.leave(web, false);
  arrivals.leave(web, false);
  assert.equal(arrivals.join(web, 99_000), 12_000, 'it is not about to come');
  arrivals.leave(web, true);
  assert.equal(arrivals.join(web, 99_000), 101_000, 'it was ready, left and comes again');
});

test('a connection that comes while others wait waits behind them', () => {
  const arrivals = new Arrivals();
  assert.equal(arrivals.isAwaited(web), false);
  arrivals.join(web, 0);
  arrivals.join(web, 0);
  arrivals.leave(web, true);
  assert.deepEqual([arrivals.isAwaited(web), arrivals.isAwaited(db)], [true, false]);
  arrivals.leave(web, true);
  assert.equal(arrivals.isAwaited(web), false);
});
