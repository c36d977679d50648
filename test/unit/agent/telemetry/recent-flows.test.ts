import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OpenConnections } from '../../../../agent/dataplane/report/open-connections.js';
import { FlowAggregator } from '../../../../agent/telemetry/flows/flow-aggregator.js';
import { workloadNamed } from '../../../support/routing/names.js';

function seen(connections: number, port = 5432): OpenConnections {
  return {
    direction: 'outbound',
    source: { workload: workloadNamed('shop/web'), identity: null, ip: null },
    destination: { workload: workloadNamed('shop/db'), identity: null, ip: null },
    port,
    rule: null,
    audited: [],
    revision: 1,
    connections,
    bytesSent: 1,
    bytesReceived: 2,
    firstSeenMs: 1000,
    lastSeenMs: 2000,
  };
}

const newAggregator = (): FlowAggregator => new FlowAggregator({ nameExternal: () => null });
const counts = (aggregator: FlowAggregator): number[] =>
  aggregator.takeRecent().flows.map(({ connections }) => connections);

test('a report has each flow that grew, with all that is in no stored batch', () => {
  const flows = newAggregator();
  flows.addOpen(seen(2));
  flows.addOpen(seen(1, 80));
  assert.deepEqual(counts(flows), [2, 1]);
  flows.addOpen(seen(3));
  assert.deepEqual(counts(flows), [5]);
  assert.deepEqual(counts(flows), []);
  assert.deepEqual(
    flows.take({ isLast: false }).flows.map(({ connections }) => connections),
    [5, 1],
  );
  flows.addOpen(seen(4));
  assert.deepEqual(counts(flows), [4]);
});

test('a flow that waits for its stored batch is reported meanwhile', () => {
  const flows = newAggregator();
  for (let window = 0; window < 8; window++) {
    flows.addOpen(seen(1));
    flows.take({ isLast: false });
  }
  flows.addOpen(seen(1));
  assert.deepEqual(flows.take({ isLast: false }).flows, []);
  assert.notDeepEqual(counts(flows), []);
});

test('every connection is unconfirmed until a report or a stored batch with it arrived', () => {
  const flows = newAggregator();
  flows.addOpen(seen(2));
  const failed = flows.takeRecent();
  failed.putBack();
  flows.addOpen(seen(1));
  assert.equal(flows.unconfirmed, 3);
  const report = flows.takeRecent();
  assert.deepEqual([report.unreported, report.flows.length], [3, 1]);
  flows.addOpen(seen(5));
  flows.confirm(report.unreported);
  assert.equal(flows.unconfirmed, 5);
  flows.take({ isLast: true });
  flows.confirm(flows.takeUnreported());
  assert.equal(flows.unconfirmed, 0);
  assert.equal(flows.takeUnreported(), 0);
});

test('a report that failed while its flow was stored is not repeated, and counts its connections once', () => {
  const flows = newAggregator();
  flows.addOpen(seen(2));
  const report = flows.takeRecent();
  flows.take({ isLast: true });
  report.putBack();
  assert.deepEqual(counts(flows), []);
  flows.confirm(flows.takeUnreported());
  assert.equal(flows.unconfirmed, 0);
});

test('a flow is named by its number once the controller knows it, and whole again when it has forgotten', () => {
  const flows = newAggregator();
  flows.addOpen(seen(2));
  const whole = flows.takeRecent();
  assert.deepEqual([whole.flows.length, whole.ids, whole.again], [1, [0], []]);
  whole.named();
  flows.addOpen(seen(3));
  flows.addOpen(seen(1, 80));
  const { flows: more, ids, again } = flows.takeRecent();
  assert.deepEqual([more.map(({ port }) => port), ids, again], [[80], [1], [[0, 1, 5, 2, 4, 1000, 2000]]]);
  assert.deepEqual(flows.takeRecent().again, []);
  flows.forgetReports();
  assert.deepEqual(counts(flows), [5, 1], 'all that is in no stored batch, also what was reported before');
});

test('a connection is unstored until a stored batch has it, whatever was reported', () => {
  const flows = newAggregator();
  flows.addOpen(seen(2));
  flows.confirm(flows.takeRecent().unreported);
  assert.deepEqual([flows.unconfirmed, flows.unstored], [0, 2]);
  flows.take({ isLast: true });
  assert.equal(flows.unstored, 2, 'not stored yet');
  flows.settle(2);
  assert.equal(flows.unstored, 0);
});
