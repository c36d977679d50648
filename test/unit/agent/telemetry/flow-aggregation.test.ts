import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Reporter, type ReporterSource } from '../../../../agent/dataplane/flow/reporter.js';
import type { WorkerReport } from '../../../../agent/dataplane/messages.js';
import { addressClass } from '../../../../shared/wire/flows.js';
import type { ClosedConnection } from '../../../../agent/dataplane/report/closed-connection.js';
import { ConnectionRecord } from '../../../../agent/dataplane/connection/connection-record.js';
import { externalNames } from '../../../../shared/routing/external-names.js';
import { FlowAggregator } from '../../../../agent/telemetry/flows/flow-aggregator.js';
import { type HostPort, type IpAddress, parseHostPort } from '../../../../shared/address.js';
import { parseRuleRef } from '../../../../shared/policy/connection.js';
import type { SpiffeId } from '../../../../shared/identity.js';
import {
  decodeFlowBatch,
  encodeFlowBatch,
  maxFlowMessageBytes,
  splitFlows,
} from '../../../../shared/wire/flow-batch.js';
import { flowBatchSchema, isNamedExternal, type ReportedFlow, verdictOf } from '../../../../shared/wire/flows.js';
import { workloadNamed } from '../../../support/routing/names.js';
import { patientMs } from '../../../lab/patience.js';

/** Of a worker with this many open connections. */
function gaugesOf(openConnections: number): ReturnType<ReporterSource['gauges']> {
  return {
    openConnections,
    keptConnections: 0,
    drainingConnections: 0,
    heldConnects: 0,
    heldRefusals: 0,
    openTunnels: 0,
    openStreams: 0,
    bufferedBytes: 0,
    refusedHandshakes: {},
  };
}

const noEjections = { take: () => ({ ejections: [], ejected: [] }) };
const nothing = { flows: [], notKept: 0 };

function at(text: string): HostPort {
  const address = parseHostPort(text);
  assert.ok(address);
  return address;
}

const web = { workload: workloadNamed('shop/web'), identity: 'spiffe://test.local/ns/shop/sa/web' as SpiffeId };
const db = { workload: workloadNamed('shop/db'), identity: 'spiffe://test.local/ns/shop/sa/db' as SpiffeId };

function closed(part: Partial<ClosedConnection> = {}): ClosedConnection {
  return {
    traceId: '0af7651916cd43dd8448eb211c80319c',
    direction: 'outbound',
    path: 'hbone',
    startedAtMs: 1000,
    durationMs: 500.4,
    source: { address: at('198.18.10.2:40000'), ...web },
    destination: { address: at('198.18.11.2:5432'), ...db },
    service: 'shop/db',
    requested: at('198.18.200.1:80'),
    reason: 'OK',
    rule: parseRuleRef('SegmentationRule/web-to-db'),
    audited: [],
    revision: 4,
    bytesSent: 10,
    bytesReceived: 20,
    connectMs: 1,
    firstByteMs: 2,
    detail: '',
    ...part,
  };
}

function newAggregator(bounds: { maxExact?: number; maxCoarse?: number } = {}): FlowAggregator {
  return new FlowAggregator({ nameExternal: () => null, ...bounds });
}

/** Connections by verdict over everything that was told. */
function total(flows: readonly ReportedFlow[]): { allow: number; deny: number } {
  const sum = { allow: 0, deny: 0 };
  for (const flow of flows) sum[flow.verdict] += flow.connections;
  return sum;
}

test('connections that differ in nothing but their times and ports of clients are one flow', () => {
  const flows = newAggregator();
  flows.addClosed(closed());
  flows.addClosed(closed({ startedAtMs: 3000, revision: 5, source: { address: at('198.18.10.2:40001'), ...web } }));
  assert.deepEqual(flows.take({ isLast: false }), {
    flows: [
      {
        direction: 'outbound',
        source: { ...web, cidr: null },
        destination: { ...db, cidr: null },
        port: 5432,
        verdict: 'allow',
        reason: 'OK',
        rule: 'SegmentationRule/web-to-db',
        audited: [],
        revision: 5,
        connections: 2,
        bytesSent: 20,
        bytesReceived: 40,
        firstSeenMs: 1000,
        lastSeenMs: 3500,
      },
    ],
    notKept: 0,
  });
  assert.deepEqual(flows.take({ isLast: false }), nothing);
});

test('direction, ends, port, verdict, reason, rule and audited rules each make another flow', () => {
  const variants: Partial<ClosedConnection>[] = [
    {},
    { direction: 'inbound' },
    { source: { address: null, ...db } },
    { destination: { address: at('198.18.11.2:5433'), ...db } },
    { destination: { address: at('198.18.11.2:5432'), ...db, identity: null } },
    { reason: 'CLIENT_RESET' },
    { rule: parseRuleRef('SegmentationRule/other') },
    { audited: [{ kind: 'SegmentationRule', name: 'watch' }] },
  ];
  const flows = newAggregator();
  for (const variant of variants) flows.addClosed(closed(variant));
  assert.equal(flows.take({ isLast: false }).flows.length, variants.length);
});

test('every reason is a refusal by the mesh or not', () => {
  assert.deepEqual(
    (['OK', 'PEER_RESET', 'CONNECT_REFUSED', 'IDLE_TIMEOUT', 'DRAIN'] as const).map(verdictOf),
    Array(5).fill('allow'),
  );
  assert.deepEqual(
    (
      [
        'POLICY_DENY',
        'POLICY_DEFAULT_DENY',
        'POLICY_TERMINATED',
        'SOURCE_UNKNOWN',
        'CONN_LIMIT',
        'NO_RULES_YET',
      ] as const
    ).map(verdictOf),
    Array(6).fill('deny'),
  );
});

test('an end outside the mesh is its network, or the ServiceEntry that has its address and port', () => {
  const externals = [
    { name: 'pay/bank', hosts: [], cidrs: ['203.0.113.0/24'], ports: [] },
    { name: 'pay/vault', hosts: [], cidrs: ['203.0.113.7/32'], ports: [[443, 443]] as const },
  ];
  const nameOf = externalNames(() => externals);
  assert.equal(nameOf('203.0.113.7' as IpAddress, 443), 'pay/vault');
  assert.equal(nameOf('203.0.113.7' as IpAddress, 80), 'pay/bank');
  assert.equal(nameOf('198.51.100.9' as IpAddress, 443), null);
  assert.equal(addressClass('198.51.100.9' as IpAddress), '198.51.100.0/24');
  assert.equal(addressClass('fd00:1:2:3:4::5' as IpAddress), 'fd00:1:2:3::/64');
  assert.equal(addressClass('::1' as IpAddress), '::/64');
  assert.deepEqual(['198.51.100.0/24', '::/64', 'pay/bank', '10/24'].map(isNamedExternal), [false, false, true, true]);

  const flows = new FlowAggregator({ nameExternal: nameOf });
  const outside = (text: string) => ({ address: at(text), workload: null, identity: null });
  flows.addClosed(closed({ destination: outside('203.0.113.7:443') }));
  flows.addClosed(closed({ destination: outside('198.51.100.9:443') }));
  flows.addClosed(closed({ direction: 'inbound', source: outside('203.0.113.7:443') }));
  const told = flows.take({ isLast: false }).flows;
  assert.deepEqual(
    told.map(({ source, destination }) => [source.cidr, destination.cidr]),
    [
      [null, 'pay/vault'],
      [null, '198.51.100.0/24'],
      ['203.0.113.0/24', null],
    ],
  );
});

test('a flood of denials is told in sums beyond the bound, with every connection counted', () => {
  const flows = newAggregator({ maxExact: 100, maxCoarse: 5 });
  for (let port = 1; port <= 1000; port++) {
    const destination = { address: at(`198.18.11.2:${port}`), ...db, identity: null };
    const rule = parseRuleRef(`SegmentationRule/no-${port % 10}`);
    flows.addClosed(closed({ destination, rule, reason: 'POLICY_DENY', bytesSent: 0, bytesReceived: 0 }));
  }
  const told = flows.take({ isLast: false });
  assert.equal(told.flows.length, 100 + 5 + 1);
  assert.deepEqual(total(told.flows), { allow: 0, deny: 1000 });
  assert.equal(told.notKept, 900);
  const coarse = told.flows[100];
  assert.deepEqual([coarse?.port, coarse?.destination.workload], [0, 'shop/db']);
  const other = told.flows.at(-1);
  assert.deepEqual(
    [other?.port, other?.destination.workload, other?.rule, other?.reason],
    [0, null, '', 'POLICY_DENY'],
  );
  assert.ok(flows.size <= 106);
});

test('a full table makes room once its flows are told', () => {
  const flows = newAggregator({ maxExact: 10, maxCoarse: 1 });
  const dial = (port: number): void =>
    flows.addClosed(closed({ destination: { address: at(`198.18.11.2:${port}`), ...db } }));
  for (let port = 1; port <= 10; port++) dial(port);
  assert.equal(flows.take({ isLast: false }).flows.length, 10);
  dial(11);
  assert.deepEqual(
    flows.take({ isLast: false }).flows.map(({ port }) => port),
    [11],
  );
});

test('a flow that goes on is told at once six times and then every five minutes, and nothing is left untold', () => {
  const flows = newAggregator();
  const windows: number[] = [];
  for (let window = 0; window < 100; window++) {
    flows.addClosed(closed());
    windows.push(total(flows.take({ isLast: false }).flows).allow);
  }
  assert.deepEqual(windows.slice(0, 6), Array(6).fill(1));
  assert.deepEqual([windows[35], windows[65], windows[95]], [30, 30, 30]);
  const sum = windows.reduce((a, b) => a + b) + total(flows.take({ isLast: true }).flows).allow;
  assert.equal(sum, 100);
});

test('a flow that paused is forgotten and told at once when it comes back', () => {
  const flows = newAggregator();
  for (let window = 0; window < 10; window++) {
    flows.addClosed(closed());
    flows.take({ isLast: false });
  }
  for (let window = 0; window < 70; window++) flows.take({ isLast: false });
  assert.equal(flows.size, 0);
  flows.addClosed(closed());
  assert.equal(flows.take({ isLast: false }).flows.length, 1);
});

test('what another agent calls its rule cannot spoil a batch', () => {
  const flows = newAggregator();
  flows.addClosed(closed({ reason: 'POLICY_DENY', rule: { kind: 'SegmentationRule', name: 'x\n"}\u0000 <script>' } }));
  assert.equal(flows.take({ isLast: false }).flows[0]?.rule, '');
});

/** A record as the data plane makes it, connected. */
function openRecord(bytes: { sent: number; received: number }): ConnectionRecord {
  const record = new ConnectionRecord({ direction: 'outbound' });
  record.source = { address: at('198.18.10.2:40000'), ...web };
  record.destination = { address: at('198.18.11.2:5432'), ...db };
  record.connected('hbone', null);
  record.bytesSent = bytes.sent;
  record.bytesReceived = bytes.received;
  return record;
}

test('a long connection counts once, and its bytes once, however often it is told while open', () => {
  const flows = newAggregator();
  const record = openRecord({ sent: 10, received: 1 });
  for (const bytes of [10, 25, 25]) {
    record.bytesSent = bytes;
    const open = record.takeOpen(0);
    assert.ok(open);
    flows.addOpen(open);
  }
  record.bytesSent = 30;
  flows.addClosed(record.close({ reason: 'OK', detail: '', rule: null }));
  const { flows: told } = flows.take({ isLast: true });
  assert.deepEqual(
    told.map(({ connections, bytesSent, bytesReceived }) => ({ connections, bytesSent, bytesReceived })),
    [{ connections: 1, bytesSent: 30, bytesReceived: 1 }],
  );
});

test('a long connection that the rules cut counts once as allowed and once as denied', () => {
  const flows = newAggregator();
  const record = openRecord({ sent: 10, received: 1 });
  const open = record.takeOpen(0);
  assert.ok(open);
  flows.addOpen(open);
  record.bytesSent = 12;
  flows.addClosed(record.close({ reason: 'POLICY_TERMINATED', detail: '', rule: parseRuleRef('SegmentationRule/no') }));
  const { flows: told } = flows.take({ isLast: true });
  assert.deepEqual(total(told), { allow: 1, deny: 1 });
  assert.equal(
    told.reduce((sum, flow) => sum + flow.bytesSent, 0),
    12,
  );
});

test('a connection that is not connected yet, or was told a moment ago, is not told as open', () => {
  assert.equal(new ConnectionRecord({ direction: 'outbound' }).takeOpen(0), null);
  const record = openRecord({ sent: 0, received: 0 });
  assert.equal(record.takeOpen(60_000), null);
  assert.ok(record.takeOpen(0));
  assert.equal(record.takeOpen(60_000), null);
});

test('the sweep of a worker tells open connections added up', { timeout: patientMs(10_000) }, async () => {
  const records = [openRecord({ sent: 5, received: 0 }), openRecord({ sent: 7, received: 0 })];
  const reports = new Map<string, WorkerReport>();
  let wake: () => void = () => undefined;
  const told = new Promise<void>((resolve) => (wake = resolve));
  const reporter = new Reporter({
    openEveryMs: 0,
    source: { openRecords: () => records, gauges: () => gaugesOf(2), health: noEjections },
    post: (report) => {
      if (report.open === undefined) return;
      reports.set('open', report);
      wake();
    },
  });
  await told;
  reporter.stop();
  const open = reports.get('open')?.open ?? [];
  assert.deepEqual(
    open.map(({ connections, bytesSent, port }) => ({ connections, bytesSent, port })),
    [{ connections: 2, bytesSent: 12, port: 5432 }],
  );
});

test('a connection that closes after a sweep counted it as open counts once', async () => {
  const record = new ConnectionRecord({ direction: 'outbound' });
  const records = new Set([record]);
  const reports: WorkerReport[] = [];
  let wake: () => void = () => undefined;
  const swept = new Promise<void>((resolve) => (wake = resolve));
  const reporter = new Reporter({
    source: { openRecords: () => records, gauges: () => gaugesOf(1), health: noEjections },
    post: (report) => {
      reports.push(report);
      wake();
    },
  });
  await swept;
  records.delete(record);
  reporter.closed(record, { reason: 'OK', rule: null, detail: '' });
  reporter.stop();
  assert.deepEqual(
    reports.slice(0, 2).map((report) => [report.openUnreported, report.closed.length]),
    [
      [1, 0],
      [0, 1],
    ],
  );
});

test('a batch survives the way there and back, and every part of many flows fits into a message', () => {
  const flows = newAggregator({ maxExact: 5000 });
  for (let index = 0; index < 3000; index++) {
    const audited = Array.from(
      { length: 40 },
      (_, rule) => ({ kind: 'SegmentationRule', name: `${'long-name-'.repeat(5)}${rule}` }) as const,
    );
    flows.addClosed(closed({ destination: { address: at(`198.18.11.2:${index + 1}`), ...db }, audited }));
  }
  const parts = splitFlows(flows.take({ isLast: true }).flows);
  assert.ok(parts.length > 6);
  assert.equal(parts.flat().length, 3000);
  for (const [index, part] of parts.entries()) {
    const batch = { run: 'a'.repeat(16), sequence: index + 1, sentAtMs: 5, notKept: 0, flows: part };
    const bytes = encodeFlowBatch(batch);
    assert.ok(bytes.length < maxFlowMessageBytes);
    assert.deepEqual(decodeFlowBatch(bytes), batch);
  }
});

test('a batch that is no gzip, expands too far, or has a field out of bounds is refused', () => {
  const invalid = { code: 'WIRE_INVALID' };
  const batch = { run: 'a'.repeat(16), sequence: 1, sentAtMs: 5, notKept: 0, flows: [] as ReportedFlow[] };
  assert.throws(() => decodeFlowBatch(new TextEncoder().encode(JSON.stringify(batch))), invalid);
  const flows = newAggregator();
  flows.addClosed(closed());
  const [flow] = flows.take({ isLast: true }).flows;
  assert.ok(flow);
  const bad: Partial<Record<keyof ReportedFlow, unknown>>[] = [
    { connections: -1 },
    { connections: 1.5 },
    { port: 70_000 },
    { reason: 'BECAUSE' },
    { source: { workload: 'no-namespace', identity: null, cidr: null } },
    { source: { workload: null, identity: 'https://x', cidr: null } },
    { destination: { workload: null, identity: null, cidr: '<script>' } },
    { audited: Array(33).fill('SegmentationRule/x') },
    { firstSeenMs: -5 },
  ];
  for (const part of bad) {
    const damaged = { ...batch, flows: [{ ...flow, ...part }] } as typeof batch;
    assert.throws(() => decodeFlowBatch(encodeFlowBatch(damaged)), invalid, JSON.stringify(part));
  }
  assert.ok(flowBatchSchema.safeParse({ ...batch, flows: [flow] }).success);
  const bomb = encodeFlowBatch({ ...batch, run: 'a'.repeat(50_000_000) });
  assert.ok(bomb.length < maxFlowMessageBytes);
  assert.throws(() => decodeFlowBatch(bomb), invalid);
});

test('a connection that ended before the rules were asked, and was not refused, is not a flow', () => {
  const flows = newAggregator();
  for (const reason of ['CLIENT_RESET', 'DRAIN'] as const) {
    flows.addClosed(
      closed({
        reason,
        rule: null,
        revision: 0,
        destination: { ...db, workload: null, address: at('198.18.11.2:22') },
      }),
    );
  }
  assert.deepEqual(flows.take({ isLast: true }), nothing);
  flows.addClosed(closed({ reason: 'CLIENT_RESET' }));
  flows.addClosed(closed({ reason: 'RESOURCE_FD', rule: null, revision: 0 }));
  flows.addClosed(closed({ reason: 'NO_RULES_YET', rule: null, revision: 0 }));
  assert.deepEqual(total(flows.take({ isLast: true }).flows), { allow: 2, deny: 1 });
});

test('probes of the host are flows of their own, and go over the wire as such', () => {
  const flows = new FlowAggregator({ nameExternal: () => null });
  const source = { address: at('198.18.11.1:40000'), workload: null, identity: null };
  const plain = { direction: 'inbound', source, rule: null } as const;
  flows.addClosed(closed({ ...plain, path: 'plaintext' }));
  flows.addClosed(closed({ ...plain, path: 'probe' }));
  const taken = flows.take({ isLast: true });
  assert.deepEqual(
    taken.flows.map(({ probe, connections }) => [probe ?? false, connections]),
    [
      [false, 1],
      [true, 1],
    ],
  );
  const batch = { run: '0af7651916cd43dd', sequence: 1, sentAtMs: 1, notKept: 0, flows: taken.flows };
  assert.deepEqual(flowBatchSchema.parse(batch).flows, taken.flows);
});
