import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { FlowPublisher } from '../../../../agent/telemetry/flows/flow-publisher.js';
import { FlowAggregator } from '../../../../agent/telemetry/flows/flow-aggregator.js';
import { FlowTally } from '../../../../agent/telemetry/flows/flow-tally.js';
import { FlowMetrics } from '../../../../agent/telemetry/flows/flow-metrics.js';
import type { FlowHistory } from '../../../../controller/flows/flow-history.js';
import type { ClosedConnection } from '../../../../agent/dataplane/report/closed-connection.js';
import { parseHostPort } from '../../../../shared/address.js';
import type { Bus } from '../../../../shared/bus/bus.js';
import { flowStream, subjectFor } from '../../../../shared/bus/subjects.js';
import type { CulvertError } from '../../../../shared/errors.js';
import type { Reason } from '../../../../shared/reasons.js';
import { encodeFlowBatch } from '../../../../shared/wire/flow-batch.js';
import { NatsFixture } from '../../../support/bus/bus-fixture.js';
import { eventually, silentLog } from '../../../support/controller/controller-fixture.js';
import { nodeNamed, workloadNamed } from '../../../support/routing/names.js';
import { patientMs } from '../../../lab/patience.js';
import { historyOn } from '../../../support/controller/flow-history-reader.js';
import { reportedFlow } from '../../../support/controller/reported-flow.js';

const day = 86_400_000;

function connection(port: number, reason: Reason = 'OK'): ClosedConnection {
  return {
    traceId: '0af7651916cd43dd8448eb211c80319c',
    direction: 'outbound',
    path: 'hbone',
    startedAtMs: Date.now(),
    durationMs: 1,
    source: { address: null, workload: workloadNamed('shop/web'), identity: null },
    destination: {
      address: parseHostPort(`198.18.11.2:${port}`) ?? null,
      workload: workloadNamed('shop/db'),
      identity: null,
    },
    service: null,
    requested: null,
    reason,
    rule: null,
    audited: [],
    revision: 1,
    bytesSent: 3,
    bytesReceived: 4,
    connectMs: null,
    firstByteMs: null,
    detail: '',
  };
}

/** The publisher of an agent on a real connection; windows end when a test says so. */
function publisherOn(bus: Bus, node: string) {
  const aggregator = new FlowAggregator({ nameExternal: () => null });
  const registry = new Registry();
  const publisher = new FlowPublisher({
    aggregator,
    store: (bytes) => bus.store(subjectFor('flows', nodeNamed(node)), bytes, { timeoutMs: 2000 }),
    sendRecent: () => Promise.resolve({ everyMs: 4000 }),
    tally: new FlowTally({ path: '/dev/null/none', log: silentLog, hasPredecessor: false }),
    metrics: new FlowMetrics({ registry }),
    log: silentLog,
    nowMs: Date.now,
    windowMs: 3_600_000,
  });
  const told = async (): Promise<number> => {
    const metric = await registry.getSingleMetric('culvert_flow_records_total')?.get();
    return Number(metric?.values[0]?.value);
  };
  return { aggregator, publisher, told };
}

function counts(history: FlowHistory): (string | number)[][] {
  return history
    .query({ sinceMs: 0, namespace: null })
    .flows.map(({ node, port, verdict, connections }) => [node, port, verdict, connections])
    .sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
}

const seen = (history: FlowHistory, wanted: (string | number)[][]) =>
  eventually(`${JSON.stringify(wanted)}, it is ${JSON.stringify(counts(history))}`, async () =>
    JSON.stringify(counts(history)) === JSON.stringify(wanted) ? true : undefined,
  );

test('flows of two agents reach the controller, which reads them again after a restart of its own', async () => {
  await using nats = await NatsFixture.start();
  await using reader = historyOn(await nats.controller());
  await reader.current();
  for (const node of ['node1', 'node2.dc1']) {
    const { aggregator, publisher } = publisherOn(await nats.agent(node), node);
    aggregator.addClosed(connection(80));
    aggregator.addClosed(connection(80));
    for (let port = 1; port <= 1200; port++)
      if (node === 'node1') aggregator.addClosed(connection(5432, 'POLICY_DENY'));
    await publisher.flush();
    aggregator.addClosed(connection(80));
    await publisher.close();
  }
  const wanted = [
    ['node1', 5432, 'deny', 1200],
    ['node1', 80, 'allow', 3],
    ['node2.dc1', 80, 'allow', 3],
  ];
  await seen(reader.history, wanted);
  assert.deepEqual(reader.outcomes, ['kept', 'kept', 'kept', 'kept']);

  await using second = historyOn(await nats.controller());
  await second.current();
  assert.deepEqual(counts(second.history), wanted);
});

test('an outage of NATS delays flow records, loses none and repeats none', { timeout: patientMs(60_000) }, async () => {
  await using nats = await NatsFixture.start();
  const { port } = nats.server;
  await using reader = historyOn(await nats.controller());
  await reader.current();
  const { aggregator, publisher, told } = publisherOn(await nats.agent('node1'), 'node1');
  aggregator.addClosed(connection(80));
  await publisher.flush();
  await seen(reader.history, [['node1', 80, 'allow', 1]]);

  await nats.server.stop();
  for (let round = 0; round < 5; round++) {
    aggregator.addClosed(connection(80));
    await publisher.flush();
  }
  assert.equal(await told(), 1);
  assert.deepEqual(counts(reader.history), [['node1', 80, 'allow', 1]]);
  await nats.startServer(port);
  await eventually('the waiting window is stored', async () => {
    await publisher.flush();
    return (await told()) >= 3 ? true : undefined;
  });
  await seen(reader.history, [['node1', 80, 'allow', 6]]);
  await reader.current();
  await publisher.close();
});

test(
  'a wiped store costs what was read nothing, and what comes after it is read',
  { timeout: patientMs(60_000) },
  async () => {
    await using nats = await NatsFixture.start();
    const { port } = nats.server;
    await using reader = historyOn(await nats.controller());
    await reader.current();
    const { aggregator, publisher, told } = publisherOn(await nats.agent('node1'), 'node1');
    for (let round = 1; round <= 3; round++) {
      aggregator.addClosed(connection(80));
      await publisher.flush();
    }
    await seen(reader.history, [['node1', 80, 'allow', 3]]);
    await nats.server.stop();
    await rm(join(nats.stateDir, 'nats', 'store'), { recursive: true });
    await nats.startServer(port);
    await reader.current();
    aggregator.addClosed(connection(443));
    await eventually('a window is stored again', async () => {
      await publisher.flush();
      return (await told()) === 4 ? true : undefined;
    });
    await seen(reader.history, [
      ['node1', 443, 'allow', 1],
      ['node1', 80, 'allow', 3],
    ]);
    await publisher.close();
  },
);

test('the node is the one of the subject, and an agent cannot store under the subject of another', async () => {
  await using nats = await NatsFixture.start();
  await using reader = historyOn(await nats.controller(), { isOwn: (node) => node === 'node2' });
  await reader.current();
  const agent = await nats.agent('node1');
  const flow = { node: 'node2', ...reportedFlow(Date.now()) };
  const batch = { run: 'a'.repeat(16), sequence: 1, sentAtMs: Date.now(), notKept: 0, flows: [flow], node: 'node2' };
  const bytes = encodeFlowBatch(batch);
  await assert.rejects(agent.store(subjectFor('flows', nodeNamed('node2')), bytes, { timeoutMs: 1000 }));
  await agent.store(subjectFor('flows', nodeNamed('node1')), bytes, { timeoutMs: 5000 });
  await agent.store(subjectFor('flows', nodeNamed('node1')), new TextEncoder().encode('{}'), { timeoutMs: 5000 });
  await eventually('both are read', async () => (reader.outcomes.length === 2 ? true : undefined));
  assert.deepEqual(reader.outcomes, ['foreign', 'bad']);
  assert.deepEqual(counts(reader.history), []);
  assert.equal(reader.history.query({ sinceMs: 0, namespace: null }).notKept, 1);

  await agent.store(subjectFor('flows', nodeNamed('node1')), bytes, { timeoutMs: 5000 });
  await eventually('it is read', async () => (reader.outcomes.length === 3 ? true : undefined));
  assert.equal(reader.outcomes[2], 'repeated');
});

test('the stream has a bound, beyond which the oldest are dropped and new ones still stored', async () => {
  await using nats = await NatsFixture.start();
  const controller = await nats.controller();
  await using reader = historyOn(controller, { maxBytes: 1024 * 1024 });
  await reader.current();
  const agent = await nats.agent('node1');
  const noise = Buffer.from(crypto.getRandomValues(new Uint8Array(60_000)));
  // The reader makes room, and a busy one is behind: agents try again, too.
  const stored = async (): Promise<true | undefined> => {
    try {
      await agent.store(subjectFor('flows', nodeNamed('node1')), noise, { timeoutMs: 5000 });
      return true;
    } catch (error) {
      if ((error as CulvertError).code !== 'BUS_STORE_FULL') throw error;
      return undefined;
    }
  };
  for (let sent = 0; sent < 40; sent++) await eventually('there is room again', stored);
  const info = JSON.parse(
    Buffer.from(
      await controller.request(`$JS.API.STREAM.INFO.${flowStream}`, new Uint8Array(), { timeoutMs: 5000 }),
    ).toString(),
  ) as {
    config: { max_age: number; storage: string; max_msg_size: number };
    state: { bytes: number; first_seq: number };
  };
  assert.ok(info.state.bytes <= 1024 * 1024 && info.state.first_seq > 1, JSON.stringify(info.state));
  assert.deepEqual([info.config.max_age, info.config.storage], [14 * day * 1e6, 'file']);
  const tooLarge = new Uint8Array(info.config.max_msg_size + 1);
  await assert.rejects(agent.store(subjectFor('flows', nodeNamed('node1')), tooLarge, { timeoutMs: 5000 }), {
    code: 'BUS_PAYLOAD_TOO_LARGE',
  });
  await eventually('all are read', async () => (reader.outcomes.length === 40 ? true : undefined));
  await using second = historyOn(controller, { maxBytes: 1024 * 1024 });
  await second.current();
  assert.ok(second.outcomes.length < 20);
});
