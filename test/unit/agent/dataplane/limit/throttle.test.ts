import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Throttle } from '../../../../../agent/dataplane/limit/throttle.js';
import type { LimitHit } from '../../../../../agent/dataplane/report/closed-connection.js';

function budget(limit: string, waitMs: number, mode: LimitHit['mode'] = 'enforce') {
  const spent: (readonly [number, boolean])[] = [];
  const spend = (bytes: number, isTrial: boolean): number => {
    spent.push([bytes, isTrial]);
    return waitMs;
  };
  const meter = { spend, leave: () => {}, giveBack: () => {} };
  return { spent, meter, hit: { limit, bound: 'bytesPerSecond', mode } as const };
}

it('a sender waits for the slowest of its budgets, and for none of mode audit, which only says so', () => {
  const budgets = [budget('a', 5), budget('b', 7), budget('c', 0), budget('d', 90, 'audit')];
  const hits: string[] = [];
  const throttle = new Throttle({ budgets, onHit: ({ limit }) => hits.push(limit) });
  assert.equal(throttle.spend(1000), 7);
  assert.deepEqual(hits, ['a', 'b', 'd']);
  assert.deepEqual(
    budgets.map(({ spent }) => spent[0]),
    [
      [1000, false],
      [1000, false],
      [1000, false],
      [1000, true],
    ],
  );
  throttle.giveBack(400);
  assert.deepEqual(
    budgets.map((each) => each.spent.slice(1)),
    [[[-400, false]], [[-400, false]], [[-400, false]], []],
  );
});
