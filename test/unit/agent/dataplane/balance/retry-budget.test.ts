import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as fc from 'fast-check';
import { RetryBudget } from '../../../../../agent/dataplane/balance/retry-budget.js';
import { propertyRuns } from '../../../../support/property-runs.js';

const web = 'shop/web:80';

describe('the budget of retries', () => {
  it('is a share of the new connections of the last ten seconds', () => {
    let nowMs = 0;
    const budget = new RetryBudget({ nowMs: () => nowMs });
    const policy = { percent: 20, minConcurrency: 0 };
    const granted = (asked: number): number =>
      Array.from({ length: asked }, () => budget.retry(web, policy)).filter((retry) => retry !== null).length;
    assert.equal(granted(3), 0);
    for (let i = 0; i < 100; i++) budget.connects(web);
    assert.equal(granted(50), 20);
    nowMs = 9999;
    assert.equal(granted(5), 0);
    for (let i = 0; i < 50; i++) budget.connects(web);
    assert.equal(granted(50), 10);
    nowMs = 10_000;
    assert.equal(
      granted(50),
      0,
      'the first hundred and their retries have left the window, and ten of fifty are spent',
    );
    nowMs = 60_000;
    assert.equal(granted(1), 0);
    assert.equal(budget.retry('shop/other:80', policy), null);
  });

  it('lets a few at any time, and others as these end', () => {
    const budget = new RetryBudget({ nowMs: () => 0 });
    const policy = { percent: 0, minConcurrency: 2 };
    const [first, second] = [budget.retry(web, policy), budget.retry(web, policy)];
    assert.ok(first !== null && second !== null);
    assert.equal(budget.retry(web, policy), null);
    first.end();
    first.end();
    assert.ok(budget.retry(web, policy) !== null);
    assert.equal(budget.retry(web, policy), null);
  });

  it('is never exceeded, for random connections and times', () => {
    const step = fc.record({
      what: fc.constantFrom('connect', 'connect', 'retry', 'end'),
      waitMs: fc.constantFrom(0, 0, 300, 2000, 30_000),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), fc.nat(100), fc.nat(3), (steps, percent, minConcurrency) => {
        let nowMs = 0;
        const budget = new RetryBudget({ nowMs: () => nowMs });
        const [connects, retries]: number[][] = [[], []];
        const open: { end(): void }[] = [];
        const inWindow = (times: readonly number[]): number =>
          times.filter((at) => Math.floor(at / 1000) > Math.floor(nowMs / 1000) - 10).length;
        for (const { what, waitMs } of steps) {
          nowMs += waitMs;
          if (what === 'connect') {
            budget.connects(web);
            connects!.push(nowMs);
          } else if (what === 'end') open.pop()?.end();
          else {
            const mayShare = (inWindow(retries!) + 1) * 100 <= percent * inWindow(connects!);
            const retry = budget.retry(web, { percent, minConcurrency });
            assert.equal(retry !== null, mayShare || open.length < minConcurrency);
            if (retry === null) continue;
            retries!.push(nowMs);
            open.push(retry);
          }
        }
      }),
      { numRuns: propertyRuns(500) },
    );
  });

  it('forgets destinations that have no connection', () => {
    let nowMs = 0;
    const budget = new RetryBudget({ nowMs: () => nowMs });
    for (let at = 0; at < 20_000; at++) {
      nowMs = at * 100;
      budget.connects(`shop/web:${at}`);
    }
    assert.ok(budget.size < 4096, `${budget.size} destinations`);
  });
});
