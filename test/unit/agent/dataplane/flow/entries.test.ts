import assert from 'node:assert/strict';
import { once } from 'node:events';
import { statSync } from 'node:fs';
import type net from 'node:net';
import { describe, it } from 'node:test';
import type { ConnectionRecord } from '../../../../../agent/dataplane/connection/connection-record.js';
import type { Ending } from '../../../../../agent/dataplane/connection/ending.js';
import { ConnectionCut, TerminationSignal } from '../../../../../agent/dataplane/connection/termination-signal.js';
import type { FlowContext } from '../../../../../agent/dataplane/flow/flow-context.js';
import { serveHostProbe } from '../../../../../agent/dataplane/flow/host-probe.js';
import { serveInboundPlaintext } from '../../../../../agent/dataplane/flow/inbound-plaintext.js';
import { serveTunnelRequest } from '../../../../../agent/dataplane/flow/inbound-tunnel.js';
import { LiveConnections } from '../../../../../agent/dataplane/flow/live-connections.js';
import { serveOutbound } from '../../../../../agent/dataplane/flow/outbound.js';
import { WorkloadLimits } from '../../../../../agent/dataplane/limit/workload-limits.js';
import type { CapturedDestination } from '../../../../../agent/dataplane/listen/captured-destination.js';
import { Arrivals } from '../../../../../agent/dataplane/state/arrivals.js';
import { HostedWorkload } from '../../../../../agent/dataplane/listen/hosted-workload.js';
import type { ClosedConnection } from '../../../../../agent/dataplane/report/closed-connection.js';
import { DescriptorReserve } from '../../../../../agent/dataplane/sockets/descriptor-reserve.js';
import type { OriginalDestination, PeerAddress } from '../../../../../agent/dataplane/sockets/socket-addresses.js';
import { WorkerState } from '../../../../../agent/dataplane/state/worker-state.js';
import type { TunnelRequest } from '../../../../../agent/dataplane/tunnel/tunnel.js';
import { WorkloadUsage } from '../../../../../agent/dataplane/workload-usage.js';
import { selfTestTargets } from '../../../../../agent/self-test-target.js';
import type { IpAddress } from '../../../../../shared/address.js';
import { SlowEnds } from '../../../../../shared/slow-ends.js';
import { plainSnapshot } from '../../../../../shared/policy/snapshot.js';
import type { WorkloadEntry } from '../../../../../shared/routing/registry-entry.js';
import { acceptedPair } from '../../../../support/agent/application-pair.js';
import { nodeNamed, workloadNamed } from '../../../../support/routing/names.js';
import { workload as workloadEntry } from '../../../../support/routing/registry-entries.js';

const webIp = '198.18.11.2' as IpAddress;
const dbIp = '198.18.12.2' as IpAddress;
/** Of no workload. */
const otherIp = '198.18.13.2' as IpAddress;
const client = { ip: webIp, port: 40_000 } as PeerAddress;

const web = workloadEntry('shop/web', [webIp]);
const db = workloadEntry('shop/db', [dbIp]);

/** What can be wrong with a connection, in the order in which the entries check it. */
const faults = [
  'left',
  'unreadable',
  'own port',
  'loopback',
  'descriptors',
  'limit',
  'unregistered',
  'address',
  'expired',
] as const;
type Fault = (typeof faults)[number];
type EntryName = 'outbound' | 'plaintext' | 'tunnel';

/** How a connection ends that comes in by one entry and has these faults; all else is in order, and no rule allows it. */
async function endingOf(
  entry: EntryName,
  has: ReadonlySet<Fault>,
): Promise<{ answers: string[]; records: ClosedConnection[] }> {
  const own = entry === 'outbound' ? web : db;
  const netnsPath = '/proc/self/ns/net';
  const netnsInode = statSync(netnsPath).ino;
  const workload = HostedWorkload.open({ name: workloadNamed(`shop/${own.name}`), netnsPath, netnsInode, slot: 0 });
  const state = stateWith(has, own);
  state.hosted.set(workload.name, workload);
  if (has.has('left')) workload.close();
  const records: ClosedConnection[] = [];
  const answers: string[] = [];
  const context = contextWith(has, state, (record, ending) => records.push(record.close(ending)));
  const isElsewhere = has.has('address');
  const dialled = {
    ip: has.has('loopback') ? '127.0.0.5' : isElsewhere && entry !== 'outbound' ? otherIp : dbIp,
    port: has.has('own port') ? 15_008 : 5432,
  } as OriginalDestination;
  const from = isElsewhere && entry === 'outbound' ? { ...client, ip: otherIp } : client;
  const isDirect = has.has('own port') && entry === 'outbound';
  const captured: CapturedDestination = has.has('unreadable')
    ? { kind: 'unreadable', dialled: null, client: null, hasLeft: false, detail: 'ENOPROTOOPT' }
    : { kind: isDirect ? 'direct' : 'redirected', dialled, client: from };
  const [peer, socket] = await acceptedPair();
  if (entry === 'outbound') await serveOutbound(context, workload, socket, captured);
  else if (entry === 'plaintext') await serveInboundPlaintext(context, workload, socket, captured);
  else
    await serveTunnelRequest(
      context,
      requestTo(workload.name, dialled, (answer) => answers.push(answer)),
    );
  if (entry !== 'tunnel') answers.push(await answerTo(peer));
  await endOf(peer);
  socket.close();
  workload.close();
  assert.equal(context.connections.size, 0);
  return { answers, records };
}

/** How a plain connection to db ends. */
async function plaintextFrom(
  from: PeerAddress,
  kind: 'redirected' | 'mapped' = 'redirected',
): Promise<[reason: string, detail: string][]> {
  const netnsPath = '/proc/self/ns/net';
  const netnsInode = statSync(netnsPath).ino;
  const workload = HostedWorkload.open({ name: workloadNamed('shop/db'), netnsPath, netnsInode, slot: 0 });
  const records: [string, string][] = [];
  const context = contextWith(new Set(), stateWith(new Set(), db), (_record, { reason, detail }) =>
    records.push([reason, detail]),
  );
  const dialled = { ip: dbIp, port: 5432 } as OriginalDestination;
  const [peer, socket] = await acceptedPair();
  await serveInboundPlaintext(context, workload, socket, { kind, dialled, client: from });
  await answerTo(peer);
  await endOf(peer);
  socket.close();
  workload.close();
  return records;
}

function stateWith(has: ReadonlySet<Fault>, own: WorkloadEntry): WorkerState {
  const state = new WorkerState();
  const entries = [web, db].filter((each) => each !== own || !has.has('unregistered'));
  state.registry.apply({ image: null, upserts: entries, removals: [] });
  const notAfterMs = has.has('expired') ? 500 : 2000;
  const certificates = [web, db].map(({ identity }) => ({ identity, chainPem: '', keyPem: '', notAfterMs }));
  state.useCertificates({ type: 'certificates', rootsPem: '', certificates });
  state.useSnapshot({
    revision: 1,
    createdAt: '',
    createdBy: '',
    trustDomain: 'culvert.test',
    mesh: { defaultAction: 'deny', outbound: 'deny', mtls: 'PERMISSIVE', rootNamespace: 'root' },
    rules: [],
    authorizationPolicies: [],
    ...plainSnapshot,
  });
  return state;
}

function contextWith(
  has: ReadonlySet<Fault>,
  state: WorkerState,
  closed: (record: ConnectionRecord, ending: Ending) => void,
): FlowContext {
  const usage = new WorkloadUsage({ buffer: WorkloadUsage.allocate(1), workers: 1 });
  const settings = {
    maxConnectionsPerWorkload: has.has('limit') ? 0 : 10,
    maxWaitingBytesPerWorkload: 1000,
    maxWaitingBytes: 4000,
    connectRetries: 1,
  };
  const parts = {
    node: nodeNamed('n1'),
    state,
    settings,
    connections: new LiveConnections({ state, limits: new WorkloadLimits({ settings, usage, workerIndex: 0 }) }),
    balancer: { order: ({ endpoints }: { endpoints: unknown }) => endpoints, begin: () => null },
    destinations: { enter: () => null },
    reporter: { closed },
    refusals: new SlowEnds({ atOnce: 100 }),
    descriptors: new DescriptorReserve({ limit: has.has('descriptors') ? 4 : 1_000_000 }),
    clock: { nowMs: () => 1000 },
    arrivals: new Arrivals(),
    nameExternal: () => null,
  };
  return parts as unknown as FlowContext;
}

/** What the client sees of the answer: `RST`, or `closed` for a FIN. */
async function answerTo(peer: net.Socket): Promise<string> {
  return await new Promise((resolve) => {
    peer.once('end', () => resolve('closed')).once('error', () => resolve('RST'));
    peer.resume();
  });
}

async function endOf(peer: net.Socket): Promise<void> {
  if (peer.closed) return;
  peer.destroy();
  await once(peer, 'close');
}

function requestTo(
  workload: string,
  authority: OriginalDestination,
  onAnswer: (answer: string) => void,
): TunnelRequest {
  return {
    workload: workloadNamed(workload),
    authority,
    peerAddress: client,
    peerIdentity: web.identity,
    limitPassed: null,
    headers: { forwarded: '', baggage: '', traceparent: '' },
    pulse: { hurry: () => {}, unansweredMs: 0 },
    signal: new TerminationSignal(),
    accept: () => assert.fail('nothing is accepted'),
    refuse: ({ reason }) => onAnswer(reason),
  };
}

/** The reasons, in the order of the faults. */
const reasonsOf: Readonly<Record<EntryName, readonly string[]>> = {
  outbound: [
    'DRAIN',
    'DESTINATION_UNREADABLE',
    'LOOP_DETECTED',
    'HOST_UNREACHABLE',
    'RESOURCE_FD',
    'CONN_LIMIT',
    'SOURCE_UNKNOWN',
    'NOT_OWN_ADDRESS',
    'CERT_EXPIRED',
    'POLICY_DEFAULT_DENY',
  ],
  plaintext: [
    'DRAIN',
    'DESTINATION_UNREADABLE',
    'LOOP_DETECTED',
    'HOST_UNREACHABLE',
    'RESOURCE_FD',
    'CONN_LIMIT',
    'NO_RULES_YET',
    'NOT_OWN_ADDRESS',
    'CERT_EXPIRED',
    'POLICY_DEFAULT_DENY',
  ],
  // A stream has no descriptor, and its destination is in the request.
  tunnel: [
    'DRAIN',
    'LOOP_DETECTED',
    'HOST_UNREACHABLE',
    'CONN_LIMIT',
    'NO_RULES_YET',
    'NOT_OWN_ADDRESS',
    'CERT_EXPIRED',
    'POLICY_DEFAULT_DENY',
  ],
};
const faultsOf = (entry: EntryName): Fault[] =>
  faults.filter((fault) => entry !== 'tunnel' || (fault !== 'unreadable' && fault !== 'descriptors'));

describe('the three entries', () => {
  for (const entry of ['outbound', 'plaintext', 'tunnel'] as const) {
    it(`check the same things in the same order, and record each refusal once: ${entry}`, async () => {
      const present = faultsOf(entry);
      const reasons: string[] = [];
      for (let fixed = 0; fixed <= present.length; fixed++) {
        const { answers, records } = await endingOf(entry, new Set(present.slice(fixed)));
        assert.equal(records.length, 1);
        const [{ reason, path }] = records as [ClosedConnection];
        assert.deepEqual(answers, [entry === 'tunnel' ? reason : 'RST']);
        assert.equal(path, 'none');
        reasons.push(reason);
      }
      assert.deepEqual(reasons, reasonsOf[entry]);
    });

    for (const fault of faultsOf(entry)) {
      it(`refuse a connection whose only fault is "${fault}": ${entry}`, async () => {
        const { records } = await endingOf(entry, new Set([fault]));
        assert.equal(records[0]?.reason, reasonsOf[entry][faultsOf(entry).indexOf(fault)]);
      });
    }
  }

  it('name the workload of this node in the record even when the destination cannot be read', async () => {
    const { records } = await endingOf('outbound', new Set(['unreadable']));
    const [record] = records;
    assert.deepEqual(record?.source, { address: null, workload: 'shop/web', identity: null });
    assert.deepEqual([record.requested, record.destination.address, record.detail], [null, null, 'ENOPROTOOPT']);
  });
});

describe('an address that no client may use', () => {
  const loopback = '::1' as IpAddress;

  it('is refused as the client of a plain connection: the workload itself, and its loopback', async () => {
    for (const ip of [dbIp, loopback, '127.0.0.1' as IpAddress]) {
      const records = await plaintextFrom({ ip, port: 40_000 } as PeerAddress);
      assert.deepEqual(records, [['NOT_OWN_ADDRESS', `${ip} is an address of shop/db itself, and came from outside`]]);
    }
    assert.deepEqual(await plaintextFrom(client), [['POLICY_DEFAULT_DENY', '']]);
  });

  it('is refused when an IPv6 packet has it as an IPv4-mapped one', async () => {
    const records = await plaintextFrom(client, 'mapped');
    assert.deepEqual(records, [['NOT_OWN_ADDRESS', `${dbIp} came in an IPv6 packet, as an IPv4-mapped address`]]);
  });
});

describe('a captured connection', () => {
  const serve = async (captured: CapturedDestination): Promise<{ answers: string[]; reasons: string[] }> => {
    const state = stateWith(new Set(), web);
    const netnsPath = '/proc/self/ns/net';
    const workload = HostedWorkload.open({
      name: workloadNamed('shop/web'),
      netnsPath,
      netnsInode: statSync(netnsPath).ino,
      slot: 0,
    });
    const [answers, reasons]: [string[], string[]] = [[], []];
    const context = contextWith(new Set(), state, (_record, { reason }) => reasons.push(reason));
    const [peer, socket] = await acceptedPair();
    await serveOutbound(context, workload, socket, captured);
    answers.push(await answerTo(peer));
    await endOf(peer);
    socket.close();
    workload.close();
    return { answers, reasons };
  };

  it('whose client has left is the client’s reset, and not a fault of the mesh', async () => {
    const dialled = { ip: dbIp, port: 5432 } as OriginalDestination;
    const left = { kind: 'unreadable', dialled, client: null, hasLeft: true, detail: '' } as const;
    assert.deepEqual((await serve(left)).reasons, ['CLIENT_RESET']);
  });

  it('of a self-test makes no record, even when the test has given up', async () => {
    for (const target of Object.values(selfTestTargets)) {
      const dialled = target as typeof target & OriginalDestination;
      assert.deepEqual(await serve({ kind: 'redirected', dialled, client }), { answers: ['closed'], reasons: [] });
      const left = { kind: 'unreadable', dialled, client: null, hasLeft: true, detail: '' } as const;
      assert.deepEqual(await serve(left), { answers: ['closed'], reasons: [] });
    }
  });
});

describe('a probe of the host', () => {
  const dialled = { ip: dbIp, port: 5432 } as OriginalDestination;
  const toDb: CapturedDestination = { kind: 'redirected', dialled, client };

  /** Serves one while db is not hosted; `meanwhile` is what happens before it is answered. */
  async function serve(
    captured: CapturedDestination,
    meanwhile: (world: { context: FlowContext; arrive: () => void }) => void = () => undefined,
    has: ReadonlySet<Fault> = new Set(),
  ): Promise<{ answer: string; records: readonly ClosedConnection[] }> {
    const netnsPath = '/proc/self/ns/net';
    const netnsInode = statSync(netnsPath).ino;
    const state = stateWith(has, db);
    const records: ClosedConnection[] = [];
    const context = contextWith(has, state, (record, ending) => records.push(record.close(ending)));
    const arrived: HostedWorkload[] = [];
    const arrive = (): void => {
      const at = { name: workloadNamed('shop/db'), netnsPath, netnsInode, slot: 0, hasRules: true as const };
      const workload = HostedWorkload.open(at);
      arrived.push(workload);
      state.hosted.set(workload.name, workload);
    };
    const [peer, socket] = await acceptedPair();
    const served = serveHostProbe(context, socket, captured);
    meanwhile({ context, arrive });
    await served;
    const answer = await answerTo(peer);
    await endOf(peer);
    socket.close();
    for (const workload of arrived) workload.close();
    assert.equal(context.connections.size, 0);
    return { answer, records };
  }

  it('waits for its workload, and goes on when that is served', async () => {
    // The first thing that is wrong once it goes on.
    const { records } = await serve(toDb, ({ arrive }) => arrive(), new Set(['limit']));
    assert.deepEqual(
      records.map(({ reason, path, direction, destination }) => [reason, path, direction, destination.workload]),
      [['CONN_LIMIT', 'probe', 'inbound', 'shop/db']],
    );
  });

  it('is refused with a reason and a record when that takes too long', async ({ mock }) => {
    let nowMs = 5000;
    mock.method(performance, 'now', () => nowMs);
    const { answer, records } = await serve(toDb, () => (nowMs += 3000));
    assert.equal(answer, 'RST');
    const [record] = records;
    const detail = 'shop/db is not captured on this node yet';
    assert.deepEqual(
      [records.length, record?.reason, record?.path, record?.detail],
      [1, 'NOT_MESHED_PEER', 'probe', detail],
    );
    assert.deepEqual([record?.source.address, record?.requested], [client, dialled]);
    assert.deepEqual(record?.destination, { address: dialled, workload: 'shop/db', identity: db.identity });
  });

  it('that waits is cut when the agent drains', async () => {
    const cut = new ConnectionCut({ reason: 'DRAIN', detail: 'the agent shuts down' });
    const { records } = await serve(toDb, ({ context }) => context.connections.cutAll(cut));
    assert.deepEqual(
      records.map(({ reason, detail }) => [reason, detail]),
      [['DRAIN', 'the agent shuts down']],
    );
  });

  it('to no workload of this node has a record that says so', async ({ mock }) => {
    let nowMs = 5000;
    mock.method(performance, 'now', () => nowMs);
    const nowhere = { kind: 'redirected', dialled: { ip: otherIp, port: 80 } as OriginalDestination, client } as const;
    const { records } = await serve(nowhere, () => (nowMs += 3000));
    assert.deepEqual(
      records.map(({ reason, detail }) => [reason, detail]),
      [['DRAIN', `no workload is registered at ${otherIp}`]],
    );
  });

  it('is no connection to the listener itself, nor one of which the kernel does not say where it went', async () => {
    const port = { ip: '127.0.0.1', port: 15_004 } as OriginalDestination;
    const direct = await serve({ kind: 'direct', dialled: port, client });
    const unread = await serve({ kind: 'unreadable', dialled: null, client: null, hasLeft: false, detail: 'ENOENT' });
    const seen = [direct, unread].flatMap(({ answer, records }) => records.map((record) => [answer, record.reason]));
    assert.deepEqual(seen, [
      ['RST', 'LOOP_DETECTED'],
      ['RST', 'DESTINATION_UNREADABLE'],
    ]);
    assert.deepEqual(
      [...direct.records, ...unread.records].map(({ path }) => path),
      ['none', 'none'],
    );
  });
});
