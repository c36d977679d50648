import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RateLimiter } from '../../../../controller/access/rate-limiter.js';
import { RenewalLoop } from '../../../../agent/control/credentials/renewal-loop.js';
import { AgentRates } from '../../../../controller/fleet/agent-rates.js';
import { maxSignBatch } from '../../../../shared/wire/requests.js';
import { FakeScheduler } from '../../../support/agent/fake-scheduler.js';
import { silentLog } from '../../../support/controller/controller-fixture.js';
import { nodeNamed } from '../../../support/routing/names.js';

test('each key has its burst, and gets it back at its rate', () => {
  const limiter = new RateLimiter({ burst: 3, perSecond: 2 });
  const taken = (key: string, atMs: number, cost?: number): boolean => limiter.take(key, atMs, cost);
  assert.deepEqual([taken('a', 0), taken('a', 0, 2), taken('a', 0)], [true, true, false]);
  assert.equal(taken('b', 0, 3), true, 'another key has its own');
  assert.deepEqual([taken('a', 499), taken('a', 500)], [false, true]);
  assert.equal(taken('a', 60_000, 4), false, 'never more than the burst');
  assert.equal(taken('a', 60_000, 3), true, 'what is refused uses nothing');
});

test('a clock that is set back gives nothing, and stops nothing', () => {
  const limiter = new RateLimiter({ burst: 1, perSecond: 1 });
  assert.equal(limiter.take('a', 100_000), true);
  assert.equal(limiter.take('a', 0), false);
  assert.equal(limiter.take('a', 1000), true);
});

test('the least recently used key is forgotten when there are too many', () => {
  const limiter = new RateLimiter({ burst: 1, perSecond: 0 });
  limiter.take('first', 0);
  limiter.take('second', 0);
  for (let index = 0; index < 9999; index++) limiter.take(`key-${index}`, 0);
  assert.equal(limiter.take('second', 0), false, 'it is remembered');
  assert.equal(limiter.take('first', 0), true, 'it is not');
});

const lifetimes = { workloadTtlMs: 86_400_000, nodeTtlMs: 604_800_000 };

/**
 * Renews what lasts `ttlMs` as an agent does, for `lives` times as long, and returns how many attempts the controller would have
 * dropped.
 */
async function droppedOf(
  ttlMs: number,
  o: { readonly lives: number; readonly keys: number; readonly maxBatch: number },
  mayPass: (nowMs: number, count: number) => boolean,
): Promise<number> {
  const scheduler = new SpreadScheduler();
  let dropped = 0;
  const loop = new RenewalLoop<number>({
    scheduler,
    log: silentLog,
    jitterPercent: 40,
    maxRetryMs: 60_000,
    maxBatch: o.maxBatch,
    attempt: (due) => {
      const obtainedAtMs = scheduler.nowMs();
      if (!mayPass(obtainedAtMs, due.length)) throw new Error('dropped');
      return Promise.resolve(new Map(due.map((key) => [key, { obtainedAtMs, notAfterMs: obtainedAtMs + ttlMs }])));
    },
    onFailed: () => dropped++,
  });
  for (let key = 0; key < o.keys; key++) loop.add(key, null);
  const endMs = scheduler.nowMs() + o.lives * ttlMs;
  while (scheduler.nowMs() < endMs) {
    if (scheduler.nextInMs === null) await new Promise(setImmediate);
    else scheduler.runNext();
  }
  loop.close();
  return dropped;
}

/** The choices of a generator in place of none. */
class SpreadScheduler extends FakeScheduler {
  #state = 1;

  override random(): number {
    this.#state = (this.#state * 48_271) % 2_147_483_647;
    return this.#state / 2_147_483_647;
  }
}

test('a node renews in time for all of its workloads, however short certificates last', async () => {
  const node = nodeNamed('a');
  // With a long life each workload has attempts of its own: four for each are 16,000.
  for (const [ttlMs, lives] of [
    [60_000, 5],
    [3_600_000, 2],
  ] as const) {
    let nowMs = 0;
    const rates = new AgentRates({ nowMs: () => nowMs, lifetimes: { workloadTtlMs: ttlMs, nodeTtlMs: ttlMs } });
    const maySign = (atMs: number, count: number): boolean => {
      nowMs = atMs;
      return rates.take('sign', node) && rates.maySign(node, count);
    };
    assert.equal(await droppedOf(ttlMs, { lives, keys: 4096, maxBatch: maxSignBatch }, maySign), 0, `${ttlMs} ms`);
  }
  let nowMs = 0;
  const shortest = new AgentRates({ nowMs: () => nowMs, lifetimes: { workloadTtlMs: 10_000, nodeTtlMs: 10_000 } });
  const mayRenew = (atMs: number): boolean => {
    nowMs = atMs;
    return shortest.take('renew', node);
  };
  assert.equal(await droppedOf(10_000, { lives: 5, keys: 1, maxBatch: 1 }, mayRenew), 0);
});

test('a node with thousands of workloads gets its certificates twice, and one that asks without end does not', () => {
  let nowMs = 0;
  const rates = new AgentRates({ nowMs: () => nowMs, lifetimes });
  const [node, other] = [nodeNamed('a'), nodeNamed('b')];
  const batches = (of: typeof node, count: number): number =>
    Array.from({ length: count }, () => rates.maySign(of, 64)).filter(Boolean).length;
  assert.equal(batches(node, 128), 128);
  assert.ok(batches(node, 128) < 32);
  assert.equal(batches(other, 128), 128);
  nowMs = 60_000;
  assert.equal(batches(node, 128), 19, '20 a second, and what was left');
});

test('a node has few requests under way at the same time, so that all others find a place', () => {
  const rates = new AgentRates({ nowMs: () => 0, lifetimes });
  const [node, other] = [nodeNamed('a'), nodeNamed('b')];
  const begun = Array.from({ length: 20 }, () => rates.begin('sign', node)).filter(Boolean).length;
  assert.equal(begun, 8);
  assert.equal(rates.begin('sign', other), true);
  rates.end('sign', node);
  assert.deepEqual([rates.begin('sign', node), rates.begin('sign', node)], [true, false]);
});
