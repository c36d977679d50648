import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../../../controller/flows/flow-index.js';
import type { FlowBatch, ReportedFlow } from '../../../../shared/wire/flows.js';
import type { FlowAgain, RecentFlowReport } from '../../../../shared/wire/recent-flows.js';
import { nodeNamed } from '../../../support/routing/names.js';
import { reportedFlow } from '../../../support/controller/reported-flow.js';

const now = 20_000 * 86_400_000;
const [first, second] = ['1'.repeat(16), '2'.repeat(16)];
const node = nodeNamed('a');
const all = { sinceMs: 0, namespace: null };

function flow(connections: number, port = 5432): ReportedFlow {
  return reportedFlow(now, { connections, port, bytesSent: 10 * connections });
}

function newIndex(o: { readonly maxEntries?: number } = {}) {
  const clock = { nowMs: now };
  const isOwn = () => true;
  const index = new FlowIndex({ nowMs: () => clock.nowMs, retentionMs: 14 * 86_400_000, ...o });
  const report = (content: Pick<RecentFlowReport, 'flows' | 'ids' | 'again'>, after: number, run: string) =>
    index.addRecent({
      node,
      receivedAtMs: clock.nowMs,
      isOwn,
      report: { run, after, sentAtMs: clock.nowMs, ...content },
    });
  const add = (batch: Omit<FlowBatch, 'sentAtMs' | 'notKept'>) =>
    index.add({ node, storedAtMs: clock.nowMs, isOwn, batch: { sentAtMs: clock.nowMs, notKept: 0, ...batch } });
  const connections = () => index.query(all).flows.reduce((sum, flows) => sum + flows.connections, 0);
  return {
    index,
    clock,
    connections,
    leftBehind: () => index.leftBehind({ isEnding: false }),
    recent: (after: number, flows: readonly ReportedFlow[], run = first, ids?: readonly number[]) =>
      report({ flows, ...(ids === undefined ? {} : { ids }) }, after, run),
    again: (after: number, ...numbers: readonly FlowAgain[]) => report({ flows: [], again: numbers }, after, first),
    stored: (
      sequence: number,
      flows: readonly ReportedFlow[],
      run = first,
      losses: Pick<FlowBatch, 'lost' | 'lostRuns'> = {},
    ) => add({ run, sequence, flows, ...losses }),
    left: (after: number, flows: readonly ReportedFlow[], run = first) =>
      add({ run, sequence: Math.max(1, after), leftAfter: after, flows }),
  };
}

test('a report shows at once, and a later one replaces it', () => {
  const { recent, connections, index } = newIndex();
  assert.equal(index.asOfMs(node), null);
  recent(0, [flow(2)]);
  assert.equal(connections(), 2);
  recent(0, [flow(5)]);
  recent(0, []);
  assert.equal(connections(), 5);
  assert.equal(index.asOfMs(node), now);
  assert.equal(index.query(all).oldestMs, now);
});

test('a stored batch takes the place of what was reported before it, whichever arrives first', () => {
  const before = newIndex();
  before.recent(0, [flow(5)]);
  before.stored(1, [flow(6)]);
  before.recent(1, [flow(3)]);
  assert.equal(before.connections(), 9);
  const after = newIndex();
  after.recent(0, [flow(5)]);
  after.recent(1, [flow(3)]);
  after.stored(1, [flow(6)]);
  assert.equal(after.connections(), 9);
  after.stored(2, [flow(3)]);
  assert.equal(after.connections(), 9);
});

test('a batch without a flow leaves what was reported of it', () => {
  const { recent, stored, connections } = newIndex();
  recent(0, [flow(5), flow(7, 80)]);
  stored(1, [flow(5)]);
  assert.equal(connections(), 12);
});

test('what a killed agent had reported stays, and is stored in its name once', () => {
  const { index, recent, stored, left, connections, leftBehind } = newIndex();
  stored(4, [flow(1)]);
  recent(4, [flow(5)]);
  assert.deepEqual(leftBehind(), []);
  recent(0, [flow(2)], second);
  assert.equal(connections(), 8);
  const behind = leftBehind();
  assert.deepEqual(
    behind.map(({ run, after, flows }) => [run, after, flows.map((one) => one.connections)]),
    [[first, 4, [5]]],
  );
  stored(1, [flow(2)], second);
  for (const { run, after, flows, stored: noteStored } of behind) {
    noteStored(flows);
    assert.equal(left(after, flows, run), 'kept');
  }
  assert.equal(connections(), 8);
  assert.deepEqual(leftBehind(), []);
  index.settleEnded();
  assert.equal(connections(), 8);
  assert.equal(left(4, [flow(5)]), 'repeated');
  assert.equal(connections(), 8);
});

test('the flows of a host that stays silent are stored, and one that is back stores them itself', () => {
  const { index, recent, stored, left, connections, clock, leftBehind } = newIndex();
  stored(3, [flow(1)]);
  recent(3, [flow(5), flow(7, 80)]);
  clock.nowMs += 4 * 60_000;
  assert.deepEqual(leftBehind(), []);
  clock.nowMs += 2 * 60_000;
  const [behind] = leftBehind();
  assert.equal(behind?.flows.length, 2);
  behind.stored(behind.flows);
  assert.equal(left(3, behind.flows), 'kept');
  index.settleEnded();
  assert.deepEqual([leftBehind().length, connections()], [0, 13]);
  assert.equal(stored(4, [flow(6)]), 'kept', 'its number is not taken');
  assert.equal(connections(), 1 + 6 + 7);
});

test('what was stored for a silent host is read after a restart, and expires', () => {
  const { index, left, connections, clock } = newIndex();
  left(3, [flow(5)]);
  index.settleEnded();
  assert.equal(connections(), 5);
  clock.nowMs += 15 * 86_400_000;
  assert.deepEqual([connections(), index.size], [0, 0]);
});

test('what was left behind is not counted with a batch that was stored at the same moment', () => {
  const { stored, left, connections } = newIndex();
  stored(4, [flow(6)]);
  left(3, [flow(5)]);
  assert.equal(connections(), 6);
});

test('a part that could not be stored is left alone, and the others are not stored again', () => {
  const { recent, leftBehind } = newIndex();
  recent(0, [flow(5), flow(7, 80)]);
  recent(0, [], second);
  const [behind] = leftBehind();
  behind?.stored(behind.flows.slice(0, 1));
  assert.deepEqual(
    leftBehind().map(({ flows }) => flows.map(({ port }) => port)),
    [[80]],
  );
});

test('a report names by number what was reported whole, and a number that is not known is said', () => {
  const { index, again, recent, connections, stored } = newIndex();
  recent(0, [flow(2), flow(3, 80)], first, [7, 8]);
  assert.deepEqual(again(0, [7, 1, 4, 40, 20, now, now]), { hasForeign: false, isUnknown: false });
  assert.equal(connections(), 4 + 3);
  stored(1, [flow(4)]);
  again(1, [7, 1, 1, 10, 20, now, now]);
  assert.equal(connections(), 4 + 3 + 1);
  assert.deepEqual(again(1, [9, 1, 1, 10, 20, now, now]), { hasForeign: false, isUnknown: true });
  assert.equal(connections(), 8);
  assert.equal(index.query(all).flows[0]?.destination.workload, 'data/db');
});

test('of what a killed agent had not stored, that is lost which no report had', () => {
  const { index, recent, stored, leftBehind } = newIndex();
  recent(0, [flow(20)]);
  const lostRuns = [{ run: first, connections: 27, unreported: 7 }];
  stored(1, [], second, { lost: 9, lostRuns });
  assert.equal(index.lostSince(0), 2 + 7);
  const [behind] = leftBehind();
  behind?.stored(behind.flows);
  index.settleEnded();
  assert.equal(index.lostSince(0), 9);

  const restarted = newIndex();
  restarted.stored(1, [], second, { lost: 9, lostRuns });
  assert.equal(restarted.index.lostSince(0), 2 + 27, 'this one has none of them');
  restarted.left(0, behind?.flows ?? []);
  assert.equal(restarted.index.lostSince(0), 9);
});

test('connections that an agent lost are counted, and fall out with their time', () => {
  const { index, stored } = newIndex();
  stored(1, [], first, { lost: 17 });
  assert.equal(index.lostSince(0), 17);
  assert.equal(index.lostSince(now + 3_600_000), 0);
});

test('flows of other nodes are dropped from a report', () => {
  const { index, connections } = newIndex();
  const report = { run: first, after: 0, sentAtMs: now, flows: [flow(5), flow(7, 80)] };
  const { hasForeign } = index.addRecent({ node, receivedAtMs: now, isOwn: ({ port }) => port === 80, report });
  assert.equal(hasForeign, true);
  assert.equal(connections(), 7);
});

test('a node that reports without end is bounded, and what does not fit is counted', () => {
  const { index, recent } = newIndex();
  for (let part = 0; part < 30; part++) {
    recent(
      0,
      Array.from({ length: 500 }, (_, i) => flow(1, part * 500 + i)),
    );
  }
  const found = index.query(all);
  assert.equal(found.flows.length + found.notKept, 15_000);
  assert.ok(found.flows.length <= 12_000);
  for (let again = 0; again < 3; again++) recent(0, [flow(1, 14_999)]);
  assert.equal(index.query(all).notKept, found.notKept, 'a flow that is reported again counts once');
});

test('recent flows are within the bound of all nodes', () => {
  const { index, recent, stored } = newIndex({ maxEntries: 1000 });
  stored(1, [flow(1)]);
  for (let part = 0; part < 4; part++) {
    recent(
      1,
      Array.from({ length: 100 }, (_, i) => flow(1, part * 100 + i)),
    );
  }
  const found = index.query(all);
  assert.ok(found.flows.length <= 1000 / 4, String(found.flows.length));
  assert.equal(found.flows.reduce((sum, { connections }) => sum + connections, 0) + found.notKept, 401);
});

test('a node that names ever new runs costs no more than one that does not', () => {
  const { stored, left, recent, connections, index, leftBehind } = newIndex();
  const nameOf = (count: number): string => count.toString(16).padStart(16, '0');
  for (let count = 0; count < 2000; count++) {
    stored(1, [], nameOf(count));
    recent(0, [], nameOf(count));
  }
  assert.equal(index.size, 0, 'a run without flows leaves nothing');
  for (let count = 0; count < 2000; count++) left(0, [flow(1, count % 100)], nameOf(10_000 + count));
  assert.equal(connections(), 2000, 'those that ended are history before all is read');
  assert.ok(index.size < 100 + 66 * 4, `${index.size} entries`);
  for (let count = 2000; count < 4000; count++) recent(0, [flow(1)], nameOf(count));
  const kept = leftBehind().length;
  assert.ok(kept <= 64, `${kept} runs`);
  assert.equal(connections() + index.query(all).notKept, 4000, 'what was forgotten is counted');
});
