import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../../../controller/flows/flow-index.js';
import type { ReportedFlow } from '../../../../shared/wire/flows.js';
import { nodeNamed, workloadNamed } from '../../../support/routing/names.js';

const now = 20_000 * 86_400_000;
const [first, second] = ['1'.repeat(16), '2'.repeat(16)];
const node = nodeNamed('a');
const all = { sinceMs: 0, namespace: null };

function flow(connections: number, port = 5432): ReportedFlow {
  return {
    direction: 'outbound',
    source: { workload: workloadNamed('shop/web'), identity: null, cidr: null },
    destination: { workload: workloadNamed('data/db'), identity: null, cidr: null },
    port,
    verdict: 'allow',
    reason: 'OK',
    rule: '',
    audited: [],
    revision: 1,
    connections,
    bytesSent: 10 * connections,
    bytesReceived: 20,
    firstSeenMs: now,
    lastSeenMs: now,
  };
}

function newIndex() {
  const index = new FlowIndex({ nowMs: () => now, retentionMs: 14 * 86_400_000 });
  const isOwn = () => true;
  return {
    index,
    recent: (after: number, flows: readonly ReportedFlow[], run = first) =>
      index.addRecent({ node, receivedAtMs: now, isOwn, report: { run, after, sentAtMs: now, flows } }),
    stored: (sequence: number, flows: readonly ReportedFlow[], run = first, lost = 0) =>
      index.add({
        node,
        storedAtMs: now,
        isOwn,
        batch: { run, sequence, sentAtMs: now, notKept: 0, ...(lost === 0 ? {} : { lost }), flows },
      }),
    connections: () => index.query(all).flows.reduce((sum, { connections }) => sum + connections, 0),
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
  const { index, recent, stored, connections } = newIndex();
  stored(4, [flow(1)]);
  recent(4, [flow(5)]);
  assert.deepEqual(index.leftBehind(), []);
  recent(0, [flow(2)], second);
  assert.equal(connections(), 8);
  const left = index.leftBehind();
  assert.deepEqual(
    left.map(({ run, after, flows }) => [run, after, flows.map((one) => one.connections)]),
    [[first, 4, [5]]],
  );
  stored(1, [flow(2)], second);
  for (const { run, after, flows } of left) stored(after + 1, flows, run);
  assert.equal(connections(), 8);
  assert.deepEqual(index.leftBehind(), []);
});

test('connections that an agent lost are counted, and fall out with their time', () => {
  const { index, stored } = newIndex();
  stored(1, [], first, 17);
  assert.equal(index.lostSince(0), 17);
  assert.equal(index.lostSince(now + 3_600_000), 0);
});

test('flows of other nodes are dropped from a report', () => {
  const { index, connections } = newIndex();
  const report = { run: first, after: 0, sentAtMs: now, flows: [flow(5), flow(7, 80)] };
  const outcome = index.addRecent({ node, receivedAtMs: now, isOwn: ({ port }) => port === 80, report });
  assert.equal(outcome, 'foreign');
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
});
