import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { DestinationUsage } from '../../../../../agent/dataplane/destination-usage.js';
import { RateLimiter } from '../../../../../agent/dataplane/limit/rate-limiter.js';
import { destinationArea, maxDestinations, WorkloadUsage } from '../../../../../agent/dataplane/workload-usage.js';
import type { CompiledRateLimit } from '../../../../../shared/policy/traffic-documents.js';
import { RateLimits, type PlannedLimit } from '../../../../../shared/routing/rate-limits.js';

const web = { namespace: 'shop', name: 'web' };
const api = { namespace: 'shop', serviceAccount: 'api', labels: {} };

function limit(name: string, rest: Partial<CompiledRateLimit>): CompiledRateLimit {
  return { namespace: 'shop', name, host: 'web.shop.svc.cluster.local', per: 'pair', mode: 'enforce', ...rest };
}

function planned(...documents: readonly CompiledRateLimit[]): readonly PlannedLimit[] {
  return new RateLimits({ documents, rootNamespace: 'root' }).for(web, api, 80) ?? [];
}

function ofOwnClient(key: string) {
  return { key, client: `shop/${key}` };
}

/** Limiters of the workers of an agent, and its clock. */
function agent(workers: number) {
  const buffer = WorkloadUsage.allocate(workers);
  const clock = { nowNs: 10n ** 12n };
  const nowNs = () => clock.nowNs;
  const usages = Array.from(
    { length: workers },
    (_, workerIndex) => new DestinationUsage({ buffer, workers, workerIndex, nowNs }),
  );
  return { buffer, clock, usages, limiters: usages.map((usage) => new RateLimiter({ usage })) };
}

/** How many of `count` are let pass; their places are left at once. */
function passed(limiters: readonly RateLimiter[], limits: readonly PlannedLimit[], count: number): number {
  let passing = 0;
  for (let at = 0; at < count; at++) {
    const entered = limiters[at % limiters.length]!.enter(limits);
    if ('detail' in entered) continue;
    passing += 1;
    for (const place of entered.places) place.leave();
  }
  return passing;
}

describe('the RateLimits of an agent', () => {
  it('have one budget of new connections for all workers, which time gives back', () => {
    const { clock, limiters } = agent(3);
    const limits = planned(limit('l', { rate: { perSecond: 10, burst: 4 } }));
    assert.equal(passed(limiters, limits, 30), 4);
    clock.nowNs += 250_000_000n;
    assert.equal(passed(limiters, limits, 30), 2);
    clock.nowNs += 60_000_000_000n;
    assert.equal(passed(limiters, limits, 30), 4);
  });

  it('have a budget that is empty at most when the numbers of the document change, and fills by the new ones', () => {
    const { clock, limiters } = agent(2);
    assert.equal(passed(limiters, planned(limit('l', { rate: { perSecond: 0.001, burst: 9 } })), 20), 9);
    const changed = planned(limit('l', { rate: { perSecond: 10, burst: 4 } }));
    assert.equal(passed(limiters, changed, 20), 0);
    clock.nowNs += 250_000_000n;
    assert.equal(passed(limiters, changed, 20), 2);
  });

  it('have one number of open connections for all workers, also after one died', () => {
    const { buffer, limiters } = agent(2);
    const limits = planned(limit('l', { max: 3 }));
    const open = [0, 1, 1].map((worker) => limiters[worker]!.enter(limits));
    assert.equal(passed(limiters, limits, 4), 0);
    const refusal = limiters[0]!.enter(limits);
    assert.ok('detail' in refusal);
    assert.deepEqual(refusal, {
      hits: [{ limit: 'RateLimit/shop/l', bound: 'maxConnections', mode: 'enforce' }],
      detail: '3 connections from shop/api to shop/web:80 are open (maxConnections of RateLimit/shop/l)',
    });
    new WorkloadUsage({ buffer, workers: 2 }).clearWorker(1);
    assert.equal(passed([limiters[0]!], limits, 4), 4);
    const [first] = open;
    if (first !== undefined && 'places' in first) for (const place of first.places) place.leave();
  });

  it('take nothing for a connection that one of them refuses', () => {
    const { limiters, clock } = agent(1);
    const wide = limit('a', { rate: { perSecond: 1, burst: 5 } });
    const narrow = limit('b', { rate: { perSecond: 100, burst: 1 } });
    assert.equal(passed(limiters, planned(wide, narrow), 10), 1);
    assert.equal(passed(limiters, planned(wide), 10), 4);
    clock.nowNs += 1_000_000_000n;
    const refusal = limiters[0]!.enter(planned(wide));
    assert.ok('places' in refusal);
    const spent = limiters[0]!.enter(planned(wide));
    assert.ok('detail' in spent);
    assert.match(spent.detail, /^1 new connections a second from shop\/api to shop\/web:80, burst 5 \(conn/);
  });

  it('of mode audit let all pass and say which they would have refused: as many as if they were enforced', () => {
    const { limiters, clock } = agent(2);
    const limits = planned(limit('l', { rate: { perSecond: 10, burst: 4 }, mode: 'audit' }));
    let hits = 0;
    for (let at = 0; at < 100; at++) {
      clock.nowNs += 10_000_000n;
      const entered = limiters[at % 2]!.enter(limits);
      assert.ok('places' in entered);
      hits += entered.hits.length;
      for (const place of entered.places) place.leave();
    }
    assert.equal(hits, 100 - 4 - 9);
  });

  it('of mode audit tell what they would have refused of a connection that another one refuses, and keep nothing of it', () => {
    const { limiters } = agent(1);
    const [audit, other] = [
      { max: 0, mode: 'audit' as const },
      { rate: { perSecond: 1, burst: 1 }, mode: 'audit' as const },
    ];
    const limits = planned(
      limit('a', audit),
      limit('b', { max: 0 }),
      limit('c', audit),
      limit('d', other),
      limit('e', { max: 0 }),
    );
    for (let at = 0; at < 2; at++) {
      const refusal = limiters[0]!.enter(limits);
      assert.ok('detail' in refusal);
      const bound = 'maxConnections';
      assert.deepEqual(refusal.hits, [
        { limit: 'RateLimit/shop/a', bound, mode: 'audit' },
        { limit: 'RateLimit/shop/b', bound, mode: 'enforce' },
        { limit: 'RateLimit/shop/c', bound, mode: 'audit' },
      ]);
    }
  });

  it('keep what is taken when all slots have names, and refuse what cannot be counted', () => {
    const { limiters, usages, clock } = agent(2);
    const limits = planned(limit('l', { rate: { perSecond: 1, burst: 2 } }));
    assert.equal(passed(limiters, limits, 9), 2);
    const bucket = { eachNs: 10n ** 9n, wholeNs: 10n ** 9n };
    // Others that come and go need its slot, and do not get it while its budget is not whole.
    for (let at = 0; at < 2 * maxDestinations; at++) {
      const taken = usages[at % 2]!.takeLimited(ofOwnClient(`other ${at}`), { max: undefined, bucket: null });
      assert.ok(typeof taken !== 'string');
      taken.leave();
    }
    assert.equal(passed(limiters, limits, 9), 0);
    // As many as there are slots, each of which has to wait.
    for (let at = 0; at < maxDestinations - 1; at++) {
      const taken = usages[at % 2]!.takeLimited(ofOwnClient(`busy ${at}`), { max: undefined, bucket });
      assert.ok(typeof taken !== 'string', `${at}`);
      taken.leave();
    }
    assert.equal(usages[0]!.takeLimited(ofOwnClient('one more'), { max: undefined, bucket }), 'slots');
    assert.equal(passed(limiters, limits, 9), 0);
    clock.nowNs += 2n * 10n ** 9n;
    assert.equal(passed(limiters, limits, 9), 2);
    assert.ok(typeof usages[1]!.takeLimited(ofOwnClient('one more'), { max: undefined, bucket }) !== 'string');
  });

  it('are refused to a client that uses a fifth of all slots, and to no other one', () => {
    const { limiters, usages, clock } = agent(2);
    const slow = new RateLimits({
      documents: [limit('l', { host: '*', rate: { perSecond: 0.1, burst: 1 } })],
      rootNamespace: 'shop',
    });
    const dial = (serviceAccount: string, at: number) =>
      limiters[at % 2]!.enter(slow.for({ namespace: 'shop', name: `s${at}` }, { ...api, serviceAccount }, 80) ?? []);
    const served = (serviceAccount: string): number => {
      let count = 0;
      for (let at = 0; at < maxDestinations; at++) {
        const entered = dial(serviceAccount, at);
        if ('detail' in entered) continue;
        count += 1;
        for (const place of entered.places) place.leave();
      }
      return count;
    };
    const most = served('greedy');
    assert.equal(most, Math.ceil(maxDestinations / 5));
    assert.deepEqual(dial('greedy', maxDestinations), {
      hits: [{ limit: 'RateLimit/shop/l', bound: 'slots', mode: 'enforce' }],
      detail: 'shop/greedy uses as many limits as one client may (RateLimit/shop/l)',
    });
    // It does not come back for what was refused, and others have theirs, however many of its kind there are.
    assert.equal(served('greedy'), 0);
    for (const other of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j']) assert.ok(served(other) >= 87, other);
    assert.ok('places' in dial('api', 0));
    assert.equal(usages[0]!.takeLimited({ key: 'more', client: 'shop/greedy' }, { max: 1, bucket: null }), 'share');
    // What is whole again is not used any more.
    clock.nowNs += 10n ** 10n;
    assert.equal(served('greedy'), most);
  });

  it('are not held against the client of a worker that died', () => {
    const { buffer, usages } = agent(2);
    const open = (worker: number): number => {
      for (let at = 0; ; at++) {
        const key = `${worker} ${at}`;
        const taken = usages[worker]!.takeLimited({ key, client: 'shop/api' }, { max: undefined, bucket: null });
        if (typeof taken === 'string') return at;
      }
    };
    const most = open(0);
    assert.equal(open(1), 0);
    new WorkloadUsage({ buffer, workers: 2 }).clearWorker(0);
    assert.equal(open(1), most);
  });

  it('have one budget of bytes for all workers and connections, each way, whose senders wait for their turn', () => {
    const { limiters, clock } = agent(2);
    const limits = planned(limit('l', { bytesPerSecond: 1_000_000 }));
    const [first, second] = limiters.map((limiter) => limiter.enter(limits));
    assert.ok(first !== undefined && 'places' in first && second !== undefined && 'places' in second);
    const spend = (entered: typeof first, side: 'source' | 'destination', bytes: number): number =>
      Math.round(entered.bytes?.[side][0]?.meter.spend(bytes, false) ?? -1);
    // 65,536 bytes may be ahead of the rate.
    assert.equal(spend(first, 'source', 65_536), 0);
    assert.equal(spend(second, 'source', 10_000), 10);
    assert.equal(spend(first, 'source', 10_000), 20);
    assert.equal(spend(first, 'destination', 60_000), 0);
    clock.nowNs += 10_000_000n;
    assert.equal(spend(second, 'source', 1000), 11);
    assert.equal(first.bytes?.source[0]?.meter.spend(1_000_000, true), 1011);
    assert.equal(spend(second, 'source', 1000), 12);
    assert.equal(spend(second, 'source', -2000), 10);
    for (const entered of [first, second]) for (const place of entered.places) place.leave();
  });

  it('have a budget of bytes for each rate: those that were opened under a slower one hold up no others', () => {
    const { limiters } = agent(1);
    const [limiter] = limiters;
    const open = (bytesPerSecond: number) => {
      const entered = limiter!.enter(planned(limit('l', { bytesPerSecond })));
      assert.ok('places' in entered);
      return (bytes: number) => Math.round(entered.bytes?.source[0]?.meter.spend(bytes, false) ?? -1);
    };
    const slow = open(65_536);
    assert.equal(slow(65_536 * 11), 10_000);
    const fast = open(1_000_000);
    assert.equal(fast(65_536), 0);
    assert.equal(slow(65_536), 11_000);
    assert.equal(fast(1000), 1);
  });

  it('wait for another worker that gives a slot a name, and refuse nothing meanwhile', (t) => {
    const { buffer, usages, limiters } = agent(2);
    for (let at = 0; at < maxDestinations; at++) {
      const taken = usages[1]!.takeLimited(ofOwnClient(`other ${at}`), { max: undefined, bucket: null });
      assert.ok(typeof taken !== 'string');
      taken.leave();
    }
    const totals = destinationArea.totals(buffer, 2);
    Atomics.store(totals, destinationArea.gate, 2);
    const wait = t.mock.method(Atomics, 'wait', () => {
      if (wait.mock.callCount() === 2) Atomics.store(totals, destinationArea.gate, 0);
      return 'timed-out';
    });
    const limits = planned(limit('l', { rate: { perSecond: 1, burst: 2 } }));
    assert.equal(passed([limiters[0]!], limits, 1), 1);
    assert.equal(wait.mock.callCount(), 3);
    // One that died: the others do not wait for ever.
    Atomics.store(totals, destinationArea.gate, 2);
    assert.equal(usages[0]!.takeLimited(ofOwnClient('new'), { max: undefined, bucket: null }), 'slots');
  });
});
