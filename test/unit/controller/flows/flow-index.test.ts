import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FlowIndex } from '../../../../controller/flows/flow-index.js';
import { flowOrigin } from '../../../../controller/flows/flow-origin.js';
import { workloadName, type NodeName } from '../../../../shared/routing/names.js';
import { workloadEntry } from '../../../support/rules/analysis-fixture.js';
import type { FlowBatch, ReportedFlow } from '../../../../shared/wire/flows.js';
import { nodeNamed, workloadNamed } from '../../../support/routing/names.js';
import { reportedFlow } from '../../../support/controller/reported-flow.js';

const hour = 3_600_000;
const day = 24 * hour;
const retentionMs = 14 * day;
/** Noon of a day. */
const noon = 20_000 * day + 12 * hour;

const flow = (part: Partial<ReportedFlow> = {}): ReportedFlow => reportedFlow(noon, part);

/** An index with a clock that tests set, and a sender for each node. */
function newIndex(o: { maxEntries?: number } = {}) {
  const clock = { nowMs: noon };
  const index = new FlowIndex({ nowMs: () => clock.nowMs, retentionMs, ...o });
  let sequence = 0;
  const send = (node: string, flows: ReportedFlow[], part: Partial<FlowBatch> = {}) =>
    index.add({
      node: nodeNamed(node),
      storedAtMs: clock.nowMs,
      isOwn: () => true,
      batch: { run: '0'.repeat(16), sequence: ++sequence, sentAtMs: clock.nowMs, notKept: 0, flows, ...part },
    });
  return { clock, index, send };
}

const all = { sinceMs: 0, namespace: null };

test('flows of one node are added up over hours, and those of two nodes are kept apart', () => {
  const { clock, index, send } = newIndex();
  send('a', [flow()]);
  clock.nowMs += hour;
  send('a', [flow({ firstSeenMs: noon + hour, lastSeenMs: noon + hour, revision: 2 })]);
  send('b', [flow({ direction: 'inbound' })]);
  const { flows } = index.query(all);
  assert.deepEqual(
    flows.map(({ node, connections, revision, firstSeenMs, lastSeenMs, daysSeen }) => [
      node,
      connections,
      revision,
      firstSeenMs,
      lastSeenMs,
      daysSeen,
    ]),
    [
      ['a', 2, 2, noon, noon + hour, 1],
      ['b', 1, 1, noon, noon, 1],
    ],
  );
  assert.equal(flows[0]?.bytesReceived, 40);
});

test('a query takes what was seen since, and a namespace by either end', () => {
  const { clock, index, send } = newIndex();
  send('a', [flow()]);
  clock.nowMs += 3 * hour;
  send('a', [flow({ port: 80, firstSeenMs: clock.nowMs, lastSeenMs: clock.nowMs })]);
  assert.deepEqual(
    index.query({ sinceMs: noon + hour, namespace: null }).flows.map(({ port }) => port),
    [80],
  );
  assert.equal(index.query({ sinceMs: 0, namespace: 'data' }).flows.length, 2);
  assert.equal(index.query({ sinceMs: 0, namespace: 'shop' }).flows.length, 2);
  assert.equal(index.query({ sinceMs: 0, namespace: 'sho' }).flows.length, 0);
});

test('a repeated batch counts once, also after newer ones; another run counts again', () => {
  const { index, send } = newIndex();
  assert.equal(send('a', [flow()], { sequence: 1 }), 'kept');
  assert.equal(send('a', [flow()], { sequence: 1 }), 'repeated');
  assert.equal(send('a', [flow()], { sequence: 2 }), 'kept');
  assert.equal(send('a', [flow()], { sequence: 1 }), 'repeated');
  assert.equal(send('a', [flow()], { sequence: 1, run: '1'.repeat(16) }), 'kept');
  assert.equal(send('b', [flow()], { sequence: 1 }), 'kept');
  assert.deepEqual(
    index.query(all).flows.map(({ node, connections }) => [node, connections]),
    [
      ['a', 3],
      ['b', 1],
    ],
  );
});

test('hours become days after two days, with no connection lost, and are forgotten with the retention', () => {
  const { clock, index, send } = newIndex();
  for (let step = 0; step < 10 * 24; step++) {
    clock.nowMs = noon + step * hour;
    send('a', [flow({ firstSeenMs: clock.nowMs, lastSeenMs: clock.nowMs })]);
  }
  assert.ok(index.size < 7 + 3 * 24 + 10, `${index.size} entries`);
  const [whole] = index.query(all).flows;
  assert.deepEqual([whole?.connections, whole?.daysSeen, index.query(all).oldestMs], [240, 11, noon]);
  clock.nowMs = noon + 20 * day;
  const [rest] = index.query(all).flows;
  assert.ok(rest !== undefined && rest.connections < 150, `${rest?.connections}`);
  clock.nowMs = noon + 40 * day;
  assert.deepEqual(index.query(all), { flows: [], notKept: 0, oldestMs: null });
  assert.equal(index.size, 0);
});

test('a node that floods loses its own history first, and what it lost is counted', () => {
  const { clock, index, send } = newIndex({ maxEntries: 1000 });
  send('quiet', [flow()]);
  for (let round = 0; round < 10; round++) {
    clock.nowMs += hour;
    const flows = Array.from({ length: 300 }, (_, port) =>
      flow({ port: port + 1, firstSeenMs: clock.nowMs, lastSeenMs: clock.nowMs }),
    );
    send('loud', flows);
    assert.ok(index.size <= 1000);
  }
  const found = index.query(all);
  const sum = found.flows.reduce((count, { connections }) => count + connections, 0);
  assert.equal(sum + found.notKept, 3001);
  assert.ok(found.notKept > 0);
  assert.equal(found.flows.filter(({ node }) => node === 'quiet').length, 1);
  assert.equal(found.oldestMs, noon);
});

test('a clock that is far off is corrected by the time of storing, and nothing is seen in the future', () => {
  const { clock, index, send } = newIndex();
  const wrong = noon - 3 * day;
  send('a', [flow({ firstSeenMs: wrong - 5000, lastSeenMs: wrong - 1000 })], { sentAtMs: wrong });
  send('b', [flow({ firstSeenMs: noon + day, lastSeenMs: noon + 2 * day })]);
  assert.deepEqual(
    index.query(all).flows.map(({ node, firstSeenMs, lastSeenMs }) => [node, firstSeenMs, lastSeenMs]),
    [
      ['b', clock.nowMs, clock.nowMs],
      ['a', noon - 5000, noon - 1000],
    ],
  );
});

test('what agents could not keep apart, and what came too late, is counted', () => {
  const { index, send } = newIndex();
  send('a', [], { notKept: 7 });
  send('a', [flow({ connections: 3, firstSeenMs: 5, lastSeenMs: 5 })]);
  assert.deepEqual(index.query(all), { flows: [], notKept: 10, oldestMs: null });
});

test('a node cannot tell of workloads of other nodes', () => {
  const entries = [
    workloadEntry('shop/web', [], { node: nodeNamed('a') }),
    workloadEntry('data/db', [], { node: nodeNamed('b') }),
  ];
  const origin = flowOrigin({
    workload: (name) => entries.find((entry) => workloadName(entry) === name),
    placements: { ranOn: () => false, knownSinceMs: 0 },
  });
  const isOwn = (node: NodeName, reported: ReportedFlow): boolean => origin(node, reported, noon) === 'own';
  const inbound = flow({ direction: 'inbound' });
  const web = { ...flow().source, identity: entries[0]?.identity ?? null };
  const outbound = flow({ source: web });
  assert.deepEqual([isOwn(nodeNamed('a'), outbound), isOwn(nodeNamed('b'), outbound)], [true, false]);
  assert.deepEqual([isOwn(nodeNamed('a'), inbound), isOwn(nodeNamed('b'), inbound)], [false, true]);
  const gone = flow({ source: { ...web, workload: workloadNamed('shop/gone') } });
  assert.equal(origin(nodeNamed('a'), gone, noon), 'unknown');

  const unnamed = { ...flow().source, identity: null };
  assert.equal(origin(nodeNamed('a'), flow({ source: unnamed }), noon), 'unknown', 'it worked without an identity');
  assert.equal(isOwn(nodeNamed('a'), flow({ source: unnamed, verdict: 'deny', reason: 'POLICY_DENY' })), true);

  const index = new FlowIndex({ nowMs: () => noon, retentionMs });
  const batch = { run: '0'.repeat(16), sequence: 1, sentAtMs: noon, notKept: 0, flows: [outbound, inbound] };
  const outcome = index.add({
    node: nodeNamed('a'),
    batch,
    storedAtMs: noon,
    isOwn: (reported) => isOwn(nodeNamed('a'), reported),
  });
  assert.equal(outcome, 'foreign');
  const found = index.query(all);
  assert.deepEqual([found.flows.map(({ direction }) => direction), found.notKept], [['outbound'], 1]);
});
