import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import type { FlowsAnswer } from '../../controller/api/api-types.js';
import type { FlowRecord } from '../../shared/wire/flows.js';
import { type Mesh, startMesh } from '../lab/mesh.js';
import { waitUntil } from '../lab/wait-until.js';
import { ask, HeldConnection, startEcho } from '../support/mesh/echo-traffic.js';
import { endOf, twoHosts } from '../support/mesh/two-hosts.js';
import { patientMs } from '../lab/patience.js';

/** A window of 10 s, and the way through NATS. */
const shownWithinMs = 15_000;

const denySpare = `
apiVersion: culvert.dev/v1
kind: SegmentationRule
metadata: { name: no-spare }
spec:
  tier: team
  priority: 10
  action: deny
  from: [{ serviceAccount: shop/client }]
  to: [{ workload: shop/spare }]
`;

let mesh: Mesh;

before(async () => {
  mesh = await startMesh({ topology: twoHosts });
});

after(async () => {
  await mesh[Symbol.asyncDispose]();
});

async function flows(): Promise<FlowsAnswer> {
  return (await mesh.controller.api('/v1/flows?namespace=shop')) as FlowsAnswer;
}

type Sums = { readonly connections: number; readonly bytesSent: number; readonly bytesReceived: number };

/** What one agent reported about a pair and port, over all reasons. */
function sumOf(records: readonly FlowRecord[], fits: (record: FlowRecord) => boolean): Sums {
  const sum = { connections: 0, bytesSent: 0, bytesReceived: 0 };
  for (const record of records.filter(fits)) {
    sum.connections += record.connections;
    sum.bytesSent += record.bytesSent;
    sum.bytesReceived += record.bytesReceived;
  }
  return sum;
}

/** Waits until the sums are as wanted; says what they are when they never come. */
async function seen(what: string, fits: (record: FlowRecord) => boolean, wanted: Sums): Promise<FlowRecord[]> {
  let last: readonly FlowRecord[] = [];
  try {
    return await waitUntil(
      `${what} in /v1/flows`,
      async () => {
        last = (await flows()).flows;
        const isIt = JSON.stringify(sumOf(last, fits)) === JSON.stringify(wanted);
        return isIt ? last.filter(fits) : undefined;
      },
      shownWithinMs,
    );
  } catch (cause) {
    throw new Error(`there is ${JSON.stringify(last)}`, { cause });
  }
}

const between =
  (direction: string, source: string, destination: string) =>
  (record: FlowRecord): boolean =>
    record.direction === direction && record.source.workload === source && record.destination.workload === destination;

test('connections show up within 15 s, counted by both agents', { timeout: patientMs(60_000) }, async () => {
  const server = mesh.lab.workload('server');
  await using echo = await startEcho(server);
  const startedAtMs = Date.now();
  const target = { ip: server.ipv4, port: echo.port };
  for (let round = 0; round < 25; round++) assert.equal(await ask(mesh.lab.workload('client'), target, 'ping'), 'ok');

  const wanted = { connections: 25, bytesSent: 100, bytesReceived: 100 };
  for (const [direction, node] of [
    ['outbound', 'node1'],
    ['inbound', 'node2'],
  ] as const) {
    const isIt = between(direction, 'shop/client', 'shop/server');
    const records = await seen(`${direction} connections`, isIt, wanted);
    for (const record of records) {
      assert.deepEqual([record.node, record.port, record.verdict], [node, echo.port, 'allow']);
      assert.match(record.source.identity ?? '', /\/ns\/shop\/sa\/client$/);
      assert.match(record.destination.identity ?? '', /\/ns\/shop\/sa\/server$/);
      assert.ok(record.firstSeenMs >= startedAtMs - 1000 && record.lastSeenMs <= Date.now() + 1000);
      assert.equal(record.daysSeen, 1);
    }
  }
});

test('a flood of denials is one record with the rule that denied', { timeout: patientMs(60_000) }, async () => {
  const revision = await mesh.apply(denySpare);
  const spare = mesh.lab.workload('spare');
  const client = mesh.lab.workload('client');
  for (let round = 0; round < 200; round++) {
    const socket = await client.connect({ ip: spare.ipv4, port: 4000 }).catch(() => null);
    if (socket !== null) await endOf(socket);
  }
  const isIt = between('outbound', 'shop/client', 'shop/spare');
  const wanted = { connections: 200, bytesSent: 0, bytesReceived: 0 };
  const records = await seen('the denials', isIt, wanted);
  assert.equal(records.length, 1);
  const [record] = records;
  assert.deepEqual(
    [record?.node, record?.port, record?.verdict, record?.reason, record?.rule, record?.revision],
    ['node1', 4000, 'deny', 'POLICY_DENY', 'SegmentationRule/no-spare', revision],
  );
});

test('a client outside the mesh is its network', { timeout: patientMs(60_000) }, async () => {
  const server = mesh.lab.workload('server');
  const outside = mesh.lab.host('outside');
  await using echo = await startEcho(server);
  assert.equal(await ask(outside, { ip: server.ipv4, port: echo.port }, 'ping'), 'ok');
  const network = `${outside.ipv4.slice(0, outside.ipv4.lastIndexOf('.'))}.0/24`;
  const isIt = ({ direction, source }: FlowRecord): boolean => direction === 'inbound' && source.cidr === network;
  const [record] = await seen('the plaintext client', isIt, { connections: 1, bytesSent: 4, bytesReceived: 4 });
  assert.deepEqual(record?.source, { workload: null, identity: null, cidr: network });
});

test('connections that end while an agent drains are told', { timeout: patientMs(90_000) }, async () => {
  const spare = mesh.lab.workload('spare');
  await using echo = await startEcho(spare);
  const neighbour = mesh.lab.workload('neighbour');
  const node1 = mesh.agent('node1');
  const held = await HeldConnection.open(neighbour, { ip: spare.ipv4, port: echo.port });
  const isIt = between('outbound', 'shop/neighbour', 'shop/spare');
  const stopped = node1.stop('SIGTERM', 30_000);
  // The listeners are gone: the drain has begun, and the connection lives on.
  await waitUntil('the agent takes nothing new', async () =>
    (await ask(neighbour, { ip: spare.ipv4, port: echo.port })) === 'ok' ? undefined : true,
  );
  await held.exchange();
  assert.equal(await held.close(), 'end');
  assert.deepEqual(await stopped, { code: 0, signal: null });
  const records = node1.records().filter((line) => line.sourceWorkload === 'shop/neighbour');
  const sum = (field: 'bytesSent' | 'bytesReceived'): number => records.reduce((all, line) => all + line[field], 0);
  const wanted = { connections: records.length, bytesSent: sum('bytesSent'), bytesReceived: sum('bytesReceived') };
  assert.ok(wanted.bytesSent > 0);
  await seen('what ended in the drain', isIt, wanted);
  await node1.start();
  await node1.waitReady();
});

test(
  'what a stopping agent saw last is told, and a restarted controller knows it all',
  { timeout: patientMs(90_000) },
  async () => {
    const server = mesh.lab.workload('server');
    await using echo = await startEcho(server);
    const isIt = between('outbound', 'shop/neighbour', 'shop/server');
    const socket = await mesh.lab.workload('neighbour').connect({ ip: server.ipv4, port: echo.port });
    socket.end('bye');
    socket.resume();
    await once(socket, 'close');
    const node1 = mesh.agent('node1');
    await node1.waitForRecord(
      'the last connection',
      (line) => line.sourceWorkload === 'shop/neighbour' && line.destinationWorkload === 'shop/server',
    );
    await node1.stop();
    await seen('the last connection', isIt, { connections: 1, bytesSent: 3, bytesReceived: 3 });
    // The agent of the other end tells it in its own time.
    const isToldByBoth = async (): Promise<true | undefined> =>
      (await flows()).flows.some((flow) => isIt(flow) && flow.toldBy === 'both') ? true : undefined;
    await waitUntil('both ends have told it', isToldByBoth, 45_000);
    const before = (await flows()).flows;
    await mesh.controller.stop();
    await mesh.controller.start();
    await waitUntil('the stream is read again', async () => ((await flows()).isCurrent ? true : undefined), 45_000);
    const isOfNode1 = ({ node }: FlowRecord): boolean => node === 'node1';
    assert.deepEqual((await flows()).flows.filter(isOfNode1), before.filter(isOfNode1));
    assert.equal((await flows()).notKept, 0);
  },
);
