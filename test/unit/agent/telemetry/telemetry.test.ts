import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Registry } from 'prom-client';
import { AccessLog, accessLogLine } from '../../../../agent/telemetry/access-log.js';
import { EjectionBoard } from '../../../../agent/telemetry/ejection-board.js';
import { AgentMetrics } from '../../../../agent/telemetry/agent-metrics.js';
import type { ClosedConnection } from '../../../../agent/dataplane/report/closed-connection.js';
import { parseNamespaceUse } from '../../../../agent/telemetry/namespace-probe.js';
import type { WorkerGauges, WorkerReport } from '../../../../agent/dataplane/messages.js';
import type { IpAddress } from '../../../../shared/address.js';
import type { SpiffeId } from '../../../../shared/identity.js';
import { createLog, type LogLevel } from '../../../../shared/log.js';
import { workloadNamed } from '../../../support/routing/names.js';

const closed: ClosedConnection = {
  traceId: '0af7651916cd43dd8448eb211c80319c',
  direction: 'outbound',
  path: 'hbone',
  startedAtMs: 1_800_000_000_000,
  durationMs: 1234.56789,
  source: {
    address: { ip: '198.18.10.2' as IpAddress, port: 40_000 },
    workload: workloadNamed('shop/web'),
    identity: 'spiffe://test.local/ns/shop/sa/web' as SpiffeId,
  },
  destination: {
    address: { ip: '198.18.11.2' as IpAddress, port: 5432 },
    workload: workloadNamed('shop/db'),
    identity: 'spiffe://test.local/ns/shop/sa/db' as SpiffeId,
  },
  service: 'shop/db',
  requested: { ip: '198.18.200.1' as IpAddress, port: 5432 },
  reason: 'OK',
  rule: { kind: 'SegmentationRule', name: 'web-to-db' },
  audited: [],
  revision: 4,
  bytesSent: 10,
  bytesReceived: 20,
  connectMs: 1.5,
  firstByteMs: 2,
  detail: '',
};
const denied: ClosedConnection = {
  ...closed,
  path: 'none',
  destination: { ...closed.destination, identity: null },
  service: null,
  reason: 'POLICY_DENY',
  rule: { kind: 'SegmentationRule', name: 'no-db' },
  audited: [{ kind: 'SegmentationRule', name: 'watch' }],
  connectMs: null,
  firstByteMs: null,
  detail: 'denied at the source',
};
const gauges: WorkerGauges = {
  openConnections: 0,
  heldConnects: 0,
  heldRefusals: 0,
  openTunnels: 0,
  openStreams: 0,
  bufferedBytes: 0,
  eventLoopDelayP99Ms: 1,
  keptConnections: 0,
  ejectedEndpoints: 0,
  drainingConnections: 0,
  refusedHandshakes: {},
};

function report(part: Partial<WorkerReport>): WorkerReport {
  return { type: 'report', closed: [], live: [], gauges, ...part };
}

function newMetrics(o: { maxSeries?: number; now?: () => number } = {}): { metrics: AgentMetrics; registry: Registry } {
  const registry = new Registry();
  const { maxSeries = 100, now = () => 0 } = o;
  return { metrics: new AgentMetrics({ registry, maxSeries, idleTimeoutMs: 60_000, now }), registry };
}

async function valueOf(registry: Registry, line: RegExp): Promise<number | null> {
  const found = (await registry.metrics()).split('\n').find((candidate) => line.test(candidate));
  return found === undefined ? null : Number(found.split(' ').at(-1));
}

test('an access-log line carries every known field and no empty one', () => {
  assert.deepEqual(accessLogLine(closed), {
    kind: 'access',
    traceId: '0af7651916cd43dd8448eb211c80319c',
    direction: 'outbound',
    path: 'hbone',
    reason: 'OK',
    faultSide: 'none',
    rule: 'SegmentationRule/web-to-db',
    revision: 4,
    sourceWorkload: 'shop/web',
    sourceIdentity: 'spiffe://test.local/ns/shop/sa/web',
    sourceAddress: '198.18.10.2:40000',
    destinationWorkload: 'shop/db',
    destinationIdentity: 'spiffe://test.local/ns/shop/sa/db',
    destinationAddress: '198.18.11.2:5432',
    service: 'shop/db',
    requested: '198.18.200.1:5432',
    bytesSent: 10,
    bytesReceived: 20,
    startedAt: '2027-01-15T08:00:00.000Z',
    durationMs: 1234.568,
    connectMs: 1.5,
    firstByteMs: 2,
  });
  const dialledFrom = { ip: '198.18.10.2' as IpAddress, port: 50_000 };
  assert.equal(accessLogLine({ ...closed, dialledFrom }).dialledFrom, '198.18.10.2:50000');
  const led = { route: 'VirtualService/shop/db spec.tcp[1]', subset: 'v2' };
  const { route, subset } = accessLogLine({ ...closed, route: led });
  assert.deepEqual({ route, subset }, led);
  assert.ok(!('subset' in accessLogLine({ ...closed, route: { ...led, subset: null } })));
  const line = accessLogLine(denied);
  assert.equal(line.next, 'culvert why SRC DST:PORT');
  assert.deepEqual(line.audited, ['SegmentationRule/watch']);
  assert.ok(!('connectMs' in line) && !('destinationIdentity' in line) && !('service' in line));
});

for (const [mode, expected] of [
  ['on', ['info', 'warn']],
  ['denied', ['warn']],
  ['off', []],
] as const) {
  test(`the access log in mode ${mode} writes ${expected.length} of an allowed and a denied connection`, () => {
    const levels: LogLevel[] = [];
    const stream = { write: (line: string) => void levels.push((JSON.parse(line) as { level: LogLevel }).level) };
    const accessLog = new AccessLog({ log: createLog({ name: 'test', level: 'info', stream }), mode });
    accessLog.write(closed);
    accessLog.write(denied);
    assert.deepEqual(levels, expected);
  });
}

test('reports become counters by reason, rule and workload', async () => {
  const { metrics, registry } = newMetrics();
  metrics.report(report({ closed: [closed, denied], gauges: { ...gauges, openConnections: 3 } }), 0);
  metrics.report(report({ gauges: { ...gauges, openConnections: 1 }, closed: [closed, closed] }), 0);
  assert.equal(await valueOf(registry, /^culvert_connections_closed_total\{.*reason="OK"/), 3);
  assert.equal(await valueOf(registry, /^culvert_connections_denied_total\{.*rule="SegmentationRule\/no-db"/), 1);
  assert.equal(await valueOf(registry, /^culvert_connections_audited_total\{rule="SegmentationRule\/watch"\}/), 1);
  assert.equal(await valueOf(registry, /^culvert_open_connections /), 1);
  assert.equal(await valueOf(registry, /^culvert_connections_opened_total/), 5);
  assert.equal(await valueOf(registry, /^culvert_connect_duration_seconds_count/), 3);
});

test('connections that routes lead are counted by route and subset, and beyond the cap as others', async () => {
  const { metrics, registry } = newMetrics({ maxSeries: 2 });
  const led = (route: string, subset: string | null, reason: ClosedConnection['reason'] = 'OK') => ({
    ...closed,
    reason,
    route: { route, subset },
  });
  const reported = [
    closed,
    led('a', 'v1'),
    led('a', 'v1'),
    led('a', null, 'NO_ENDPOINT'),
    led('b', 'v1'),
    led('c', 'v2'),
  ];
  metrics.report(report({ closed: reported }), 0);
  const count = (labels: string) => valueOf(registry, new RegExp(`^culvert_connections_routed_total\\{${labels}`));
  assert.equal(await count('route="a",subset="v1",reason="OK"'), 2);
  assert.equal(await count('route="a",subset="none",reason="NO_ENDPOINT"'), 1);
  assert.equal(await count('route="other",subset="other",reason="OK"'), 2);
});

test('connections that a full circuit refuses are counted by service', async () => {
  const { metrics, registry } = newMetrics();
  const refused = { ...denied, reason: 'CIRCUIT_OPEN', service: 'shop/db' } as const;
  metrics.report(report({ closed: [refused, refused, { ...refused, reason: 'CONN_LIMIT' }] }), 0);
  assert.equal(await valueOf(registry, /^culvert_connections_circuit_open_total\{service="shop\/db"\}/), 2);
  assert.equal(await valueOf(registry, /^culvert_connections_denied_total\{.*reason="CIRCUIT_OPEN"/), 2);
});

test('connections that a RateLimit refuses, or would refuse, are counted by it and logged with it', async () => {
  const { metrics, registry } = newMetrics();
  const hit = { limit: 'RateLimit/shop/db', bound: 'connectionsPerSecond', mode: 'enforce' } as const;
  const refused = { ...denied, reason: 'RATE_LIMITED', limited: [hit] } as const;
  const audited = { ...closed, limited: [{ ...hit, bound: 'maxConnections', mode: 'audit' }] } as const;
  metrics.report(report({ closed: [refused, refused, audited, closed] }), 0);
  const count = (labels: string) =>
    valueOf(registry, new RegExp(`^culvert_connections_rate_limited_total\\{${labels}`));
  const limit = 'limit="RateLimit/shop/db"';
  assert.equal(await count(`${limit},bound="connectionsPerSecond",mode="enforce"`), 2);
  assert.equal(await count(`${limit},bound="maxConnections",mode="audit"`), 1);
  assert.equal(await valueOf(registry, /^culvert_connections_denied_total\{.*reason="RATE_LIMITED"/), 2);
  assert.deepEqual(accessLogLine(audited).limited, ['RateLimit/shop/db maxConnections audit']);
  assert.equal(accessLogLine(closed).limited, undefined);
});

test('faults that a VirtualService had made are counted by its route and logged, and an abort is no denial', async () => {
  const { metrics, registry } = newMetrics();
  const route = { route: 'VirtualService/shop/db spec.tcp[0]', subset: null };
  const aborted = { ...denied, reason: 'FAULT_INJECTED', route, faults: ['delay', 'abort'] } as const;
  metrics.report(report({ closed: [aborted, aborted, { ...closed, route, faults: ['throttle'] }, closed] }), 0);
  const count = (fault: string) =>
    valueOf(
      registry,
      new RegExp(`^culvert_connections_faulted_total\\{route="${route.route.replace(/[[\]]/g, '.')}",fault="${fault}"`),
    );
  assert.deepEqual([await count('delay'), await count('abort'), await count('throttle')], [2, 2, 1]);
  assert.equal(await valueOf(registry, /^culvert_connections_denied_total\{.*reason="FAULT_INJECTED"/), null);
  assert.deepEqual(accessLogLine(aborted).faults, ['delay', 'abort']);
  assert.equal(accessLogLine(closed).faults, undefined);
});

test('copies for a shadow are counted by route and reason, and in no other figure of ended connections', async () => {
  const { metrics, registry } = newMetrics();
  const route = { route: 'VirtualService/shop/db spec.tcp[0]', subset: null };
  const copy = { ...closed, route, mirrorOf: 'a'.repeat(32) } as const;
  const late = { ...copy, reason: 'MIRROR_GIVEN_UP' } as const;
  metrics.report(report({ closed: [copy, late, late] }), 0);
  const count = (reason: string) =>
    valueOf(registry, new RegExp(`^culvert_connections_mirrored_total\\{.*reason="${reason}"`));
  assert.deepEqual([await count('OK'), await count('MIRROR_GIVEN_UP')], [1, 2]);
  assert.equal(await valueOf(registry, /^culvert_connections_routed_total\{/), null);
  assert.equal(await valueOf(registry, /^culvert_connections_closed_total\{/), null);
  assert.deepEqual([accessLogLine(copy).mirrorOf, accessLogLine(closed).mirrorOf], ['a'.repeat(32), undefined]);
});

const ejection = {
  destination: 'shop/db:5432',
  rule: 'shop/limits',
  workload: workloadNamed('shop/db'),
  address: { ip: '198.18.11.2' as IpAddress, port: 5432 },
  reason: 'CONNECT_REFUSED',
  count: 2,
  forMs: 60_000.4,
} as const;

test('ejections are counted by destination and reason, and logged as refusals are', async () => {
  const { metrics, registry } = newMetrics();
  metrics.report(report({ ejections: [ejection], gauges: { ...gauges, ejectedEndpoints: 2 } }), 0);
  metrics.report(report({ gauges: { ...gauges, ejectedEndpoints: 1 } }), 1);
  const counted =
    /^culvert_endpoint_ejections_total\{destination="shop\/db:5432",rule="shop\/limits",reason="CONNECT_REFUSED"\}/;
  assert.equal(await valueOf(registry, counted), 1);
  assert.equal(await valueOf(registry, /^culvert_endpoints_ejected /), 3);
  for (const mode of ['on', 'denied', 'off'] as const) {
    const lines: unknown[] = [];
    const stream = { write: (line: string) => void lines.push(JSON.parse(line)) };
    const accessLog = new AccessLog({ log: createLog({ name: 'test', level: 'info', stream }), mode });
    accessLog.report({ closed: [denied], ejections: [ejection] });
    assert.equal(lines.length, mode === 'off' ? 0 : 2);
    if (mode === 'off') continue;
    const { kind, destination, destinationRule: rule, workload, ...rest } = lines[1] as Record<string, unknown>;
    const { address, reason, count, forMs, level } = rest;
    const shown = { kind, destination, rule, workload, address, reason, count, forMs, level };
    const expected = { ...ejection, address: '198.18.11.2:5432', forMs: 60_000, kind: 'ejection', level: 'warn' };
    assert.deepEqual(shown, expected);
  }
});

test('heartbeats have one row for each ejected endpoint, with the longest time of a thread', () => {
  const board = new EjectionBoard();
  const state = 'ejected' as const;
  board.report(report({ ejected: [{ ...ejection, state }] }), 0);
  board.report(report({ ejected: [{ ...ejection, state, count: 3, forMs: 90_000 }] }), 1);
  board.report(report({ gauges: { ...gauges, ejectedEndpoints: 1 } }), 1);
  const row = { ...ejection, address: '198.18.11.2:5432', state };
  assert.deepEqual(board.told(), [{ ...row, count: 3, forMs: 90_000, threads: 2 }]);
  const ofOther = { ...ejection, state, rule: 'billing/own' };
  board.report(report({ ejected: [{ ...ejection, state, count: 3, forMs: 90_000 }, ofOther] }), 1);
  assert.deepEqual(
    board.told().map(({ rule, threads }) => [rule, threads]),
    [
      ['shop/limits', 2],
      ['billing/own', 1],
    ],
  );
  board.report(report({}), 1);
  assert.deepEqual(board.told(), [{ ...row, forMs: 60_001, threads: 1 }]);
  board.workerLost(0);
  assert.deepEqual(board.told(), []);
  const many = Array.from({ length: 300 }, (_, port) => ({
    ...ejection,
    state,
    address: { ...ejection.address, port },
  }));
  board.report(report({ ejected: many }), 0);
  assert.equal(board.told().length, 256);
});

test('bytes are counted once, while connections live', async () => {
  const { metrics, registry } = newMetrics();
  const live = {
    direction: 'outbound',
    sourceWorkload: workloadNamed('shop/web'),
    destinationWorkload: null,
    sent: 100,
    received: 7,
  } as const;
  metrics.report(report({ live: [live] }), 0);
  metrics.report(report({ live: [{ ...live, sent: 1 }], closed: [{ ...closed, bytesSent: 101 }] }), 0);
  const sent = /^culvert_connection_sent_bytes_total\{.*source_workload="shop\/web",destination_workload="unknown"/;
  assert.equal(await valueOf(registry, sent), 101);
});

test('a worker that died takes its open connections out of the gauges and into the lost ones', async () => {
  const { metrics, registry } = newMetrics();
  metrics.report(report({ gauges: { ...gauges, openConnections: 4, refusedHandshakes: { garbage: 2 } } }), 0);
  metrics.report(report({ gauges: { ...gauges, openConnections: 1 } }), 1);
  metrics.workerLost(0);
  assert.equal(await valueOf(registry, /^culvert_open_connections /), 1);
  assert.equal(await valueOf(registry, /^culvert_connections_lost_total/), 4);
  assert.equal(await valueOf(registry, /^culvert_worker_restarts_total/), 1);
  metrics.report(report({ gauges: { ...gauges, refusedHandshakes: { garbage: 1 } } }), 0);
  assert.equal(await valueOf(registry, /^culvert_refused_handshakes_total\{kind="garbage"\}/), 3);
});

test('workload names beyond the cap are counted as other, and idle ones make room again', async () => {
  let nowMs = 0;
  const { metrics, registry } = newMetrics({ maxSeries: 10, now: () => nowMs });
  const from = (name: string): ClosedConnection => ({
    ...closed,
    source: { ...closed.source, workload: workloadNamed(name) },
  });
  metrics.report(report({ closed: Array.from({ length: 1000 }, (_, index) => from(`shop/w${index}`)) }), 0);
  const countSeries = async (): Promise<number> =>
    (await registry.metrics()).split('\n').filter((line) => line.startsWith('culvert_connections_closed_total{'))
      .length;
  assert.equal(await countSeries(), 11);
  const other = /^culvert_connections_closed_total\{.*source_workload="other",destination_workload="other"/;
  assert.equal(await valueOf(registry, other), 990);
  nowMs = 61_000;
  metrics.report(report({ closed: [from('shop/late')] }), 0);
  assert.equal(await valueOf(registry, /^culvert_connections_closed_total\{.*source_workload="shop\/late"/), 1);
  assert.equal(await countSeries(), 1);
});

test('no label is an address or a port', async () => {
  const { metrics, registry } = newMetrics();
  metrics.report(report({ closed: [closed, denied] }), 0);
  const text = await registry.metrics();
  assert.ok(!/198\.18\.|5432|40000/.test(text));
  for (const line of text.split('\n')) assert.match(line, /^(#|culvert_|$)/);
});

test('the use of a namespace is read from its files, with and without connection tracking', () => {
  const sockets = 'sockets: used 40\nTCP: inuse 5 orphan 0 tw 12 alloc 7 mem 1\nUDP: inuse 1 mem 0\n';
  const without = { conntrackEntries: null, conntrackLimit: null, portRange: '32768\t60999\n', sockets };
  assert.deepEqual(parseNamespaceUse(without), {
    conntrackEntries: null,
    conntrackLimit: null,
    tcpSockets: 17,
    ephemeralPorts: 28_232,
  });
  const tracked = parseNamespaceUse({ ...without, conntrackEntries: '8\n', conntrackLimit: '262144\n' });
  assert.deepEqual([tracked.conntrackEntries, tracked.conntrackLimit], [8, 262_144]);
});
