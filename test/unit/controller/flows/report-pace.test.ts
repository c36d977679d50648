import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pino } from 'pino';
import { FlowHistory } from '../../../../controller/flows/flow-history.js';
import { encodeRecentFlows, type RecentAnswer } from '../../../../shared/wire/recent-flows.js';
import { nodeNamed } from '../../../support/routing/names.js';

function newHistory() {
  const clock = { nowMs: 1_000_000 };
  const history = new FlowHistory({
    retentionMs: 86_400_000,
    maxBytes: 1,
    isOwn: () => true,
    nowMs: () => clock.nowMs,
    log: pino({ level: 'silent' }),
    onBatch: () => undefined,
  });
  const report = (agent: number, content: { readonly ids?: readonly number[] } = { ids: [] }): RecentAnswer =>
    history.takeRecent(
      nodeNamed(`host-${agent}`),
      encodeRecentFlows({ run: 'a'.repeat(16), after: 0, sentAtMs: clock.nowMs, flows: [], ...content }),
    );
  const round = (agents: number): void => {
    for (let agent = 0; agent < agents; agent++) report(agent);
    clock.nowMs += 1000;
  };
  return { history, report, round, clock };
}

test('a few agents report every 4 s, and every second while records are read', () => {
  const { history, report, clock } = newHistory();
  assert.equal(report(0).everyMs, 4000);
  history.query({ sinceMs: 0, namespace: null });
  assert.equal(report(0).everyMs, 1000);
  clock.nowMs += 60_000;
  assert.equal(report(0).everyMs, 4000);
});

test('many agents report less often, so that all of them together send 250 reports a second, at longest every 8 s', () => {
  const { history, report, round } = newHistory();
  for (const [agents, everyMs] of [
    [500, 2000],
    [1500, 6000],
    [3000, 8000],
  ] as const) {
    round(agents);
    history.query({ sinceMs: 0, namespace: null });
    assert.equal(report(0).everyMs, everyMs, `${agents} agents`);
  }
  assert.equal(report(0, {}).everyMs, 4000, 'an earlier version refuses a longer pause');
});

test('agents that are gone do not slow down the others', () => {
  const { report, round, clock } = newHistory();
  round(1500);
  clock.nowMs += 60_000;
  assert.equal(report(0).everyMs, 4000);
});

test('each process of the controller says that it is another one', () => {
  const instances = [newHistory(), newHistory()].map(({ report }) => report(0).instance);
  assert.equal(new Set(instances).size, 2);
  assert.ok(!instances.includes(undefined));
});
