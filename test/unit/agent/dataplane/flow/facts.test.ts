import { plainSnapshot } from '../../../../../shared/policy/snapshot.js';
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { describe, test } from 'node:test';
import { outboundFacts, plaintextFacts, tunnelFacts } from '../../../../../agent/dataplane/flow/facts.js';
import { TrackedConnection, type FactsSource } from '../../../../../agent/dataplane/flow/tracked-connection.js';
import { DescriptorReserve } from '../../../../../agent/dataplane/sockets/descriptor-reserve.js';
import { parseOpenFilesLimit } from '../../../../../shared/open-files.js';
import { HostedWorkload } from '../../../../../agent/dataplane/listen/hosted-workload.js';
import type { OriginalDestination } from '../../../../../agent/dataplane/sockets/socket-addresses.js';
import { WorkerState } from '../../../../../agent/dataplane/state/worker-state.js';
import { ConnectionRecord } from '../../../../../agent/dataplane/connection/connection-record.js';
import type { IpAddress } from '../../../../../shared/address.js';
import { formatSpiffeId } from '../../../../../shared/identity.js';
import { formatRuleRef, type Connection } from '../../../../../shared/policy/connection.js';
import type { WorkloadEntry } from '../../../../../shared/routing/registry-entry.js';
import { workloadNamed } from '../../../../support/routing/names.js';
import { workload } from '../../../../support/routing/registry-entries.js';
import { workloadName } from '../../../../../shared/routing/names.js';

const webIp = '198.18.11.2' as IpAddress;
const dbIp = '198.18.12.2' as IpAddress;
const cut = { reason: 'POLICY_TERMINATED', detail: '', rule: null } as const;

function dialled(port: number): OriginalDestination {
  return { ip: dbIp, port } as OriginalDestination;
}

const web = workload('shop/web', [webIp], { app: 'web' });
const db = workload('shop/db', [dbIp], { app: 'db' });
const other = formatSpiffeId({ trustDomain: 'culvert.test', namespace: 'shop', serviceAccount: 'other' });

function stateOf(mtls: 'STRICT' | 'PERMISSIVE', ...entries: WorkloadEntry[]): WorkerState {
  const state = new WorkerState();
  state.registry.apply({ image: null, upserts: entries, removals: [] });
  const certificates = [web.identity, db.identity].map((identity) => ({
    identity,
    chainPem: '',
    keyPem: '',
    notAfterMs: 2000,
  }));
  state.useCertificates({ type: 'certificates', rootsPem: '', certificates });
  state.useSnapshot({
    revision: 1,
    createdAt: '',
    createdBy: '',
    trustDomain: 'culvert.test',
    mesh: { defaultAction: 'allow', outbound: 'allow', mtls, rootNamespace: 'root' },
    rules: [],
    authorizationPolicies: [],
    ...plainSnapshot,
  });
  return state;
}

function connectionOf(source: FactsSource, state: WorkerState): Connection {
  const facts = source(state);
  if (!('connection' in facts)) throw new Error(`refused: ${facts.refusal.reason}`);
  return facts.connection;
}

test('a service whose endpoint is the dialling workload reaches it, whatever the rules say', () => {
  const facts = (address: IpAddress, entry: WorkloadEntry) => {
    const endpoint = { workload: entry, address: { ip: address, port: 80 } };
    const source = outboundFacts({ source: web, clientIp: webIp, endpoint });
    return connectionOf(source, stateOf('STRICT', web, db));
  };
  assert.equal(facts(webIp, web).isOwn, true);
  assert.equal(facts(dbIp, db).isOwn, undefined);
  const spoofed = plaintextFacts({ clientIp: dbIp, destination: db, address: dialled(80) });
  assert.equal(connectionOf(spoofed, stateOf('PERMISSIVE', web, db)).isOwn, undefined);
});

test('nothing is known of an address whose registry entry cannot be read, so connections with it are refused', () => {
  const state = stateOf('PERMISSIVE', web, db);
  const unknownIp = '198.18.10.77' as IpAddress;
  const sources: FactsSource[] = [
    outboundFacts({ source: web, clientIp: webIp, endpoint: { workload: null, address: { ip: unknownIp, port: 80 } } }),
    plaintextFacts({ clientIp: unknownIp, destination: db, address: dialled(80) }),
    tunnelFacts({ peerIdentity: other, peerIp: unknownIp, destination: db, authority: dialled(80) }),
  ];
  assert.doesNotThrow(() => sources.slice(0, 2).map((source) => connectionOf(source, state)));
  const unreadable = new Map([[unknownIp, 'workload.shop.newer']]);
  state.registry.apply({ image: null, upserts: [], removals: [], unreadable });
  for (const source of sources) {
    assert.deepEqual(refusalOf(source, state), ['REGISTRY_UNREADABLE', 'REGISTRY_UNREADABLE']);
  }
});

function refusalOf(source: FactsSource, state: WorkerState): [reason: string, whileOpen: string] {
  const facts = source(state);
  if ('connection' in facts) throw new Error('not refused');
  return [facts.refusal.reason, facts.whileOpen];
}

describe('the facts of an outbound connection', () => {
  const address = { ip: dbIp, port: 5432 };
  const facts = outboundFacts({ source: web, clientIp: webIp, endpoint: { workload: db, address } });

  test('are those of the registry now, not of when it began', () => {
    const relabelled = { ...db, labels: { app: 'quarantined' } };
    const { source, destination, port } = connectionOf(facts, stateOf('STRICT', web, relabelled));
    assert.equal(source.identity, web.identity);
    assert.deepEqual(destination.workload?.labels, { app: 'quarantined' });
    assert.equal(port, 5432);
  });

  const revocations: [string, WorkerState][] = [
    ['the source is no longer registered', stateOf('STRICT', db)],
    ['the source has another identity', stateOf('STRICT', { ...web, identity: other }, db)],
    ['the destination is no longer registered', stateOf('STRICT', web)],
    ['the destination has another identity', stateOf('STRICT', web, { ...db, identity: other })],
    ['another workload has its address', stateOf('STRICT', web, workload('shop/other', [dbIp]))],
  ];
  for (const [what, state] of revocations) {
    test(`are gone when ${what}`, () => assert.deepEqual(refusalOf(facts, state), ['CERT_REVOKED', 'CERT_REVOKED']));
  }

  test('are gone when the own certificate was taken away', () => {
    const state = stateOf('STRICT', web, db);
    state.useCertificates({ type: 'certificates', rootsPem: '', certificates: [] });
    assert.deepEqual(refusalOf(facts, state), ['CERT_REVOKED', 'CERT_REVOKED']);
  });

  test('name a workload that was registered at an address that was external before', () => {
    const external = outboundFacts({ source: web, clientIp: webIp, endpoint: { workload: null, address } });
    assert.equal(connectionOf(external, stateOf('STRICT', web)).destination.workload, null);
    assert.equal(connectionOf(external, stateOf('STRICT', web, db)).destination.workload?.name, 'db');
  });
});

describe('the facts of a tunnelled connection', () => {
  const facts = tunnelFacts({
    peerIdentity: web.identity,
    peerIp: webIp,
    destination: db,
    authority: dialled(5432),
  });

  test('need a workload at the address of the peer with the identity of its certificate', () => {
    assert.equal(connectionOf(facts, stateOf('STRICT', web, db)).source.workload?.name, 'web');
    assert.deepEqual(refusalOf(facts, stateOf('STRICT', db)), ['SOURCE_UNKNOWN', 'CERT_REVOKED']);
    const stranger = { ...web, identity: other };
    assert.deepEqual(refusalOf(facts, stateOf('STRICT', stranger, db)), ['SOURCE_UNKNOWN', 'CERT_REVOKED']);
  });

  test('are gone with the destination', () => {
    assert.deepEqual(refusalOf(facts, stateOf('STRICT', web)), ['CERT_REVOKED', 'CERT_REVOKED']);
  });
});

describe('the facts of a plaintext connection', () => {
  const facts = plaintextFacts({ clientIp: webIp, destination: db, address: dialled(5432) });

  test('prove nothing of the source, but name the workload of its address, so that a rule can deny it', () => {
    const { source } = connectionOf(facts, stateOf('PERMISSIVE', web, db));
    assert.deepEqual(source, { ip: webIp, identity: null, workload: web });
  });

  test('do not suffice in a STRICT mesh', () => {
    assert.deepEqual(refusalOf(facts, stateOf('STRICT', web, db)), ['SOURCE_UNKNOWN', 'POLICY_TERMINATED']);
  });
});

describe('plaintext under PeerAuthentications', () => {
  const mode = (port: number, state: WorkerState): string => {
    const facts = plaintextFacts({ clientIp: webIp, destination: db, address: dialled(port) })(state);
    return 'connection' in facts
      ? 'rules'
      : `${facts.refusal.reason} ${facts.refusal.rule && formatRuleRef(facts.refusal.rule)}`;
  };

  test('is refused at the ports where they are STRICT, and ruled at the others', () => {
    const state = stateOf('STRICT', web, db);
    assert.equal(mode(5432, state), 'SOURCE_UNKNOWN Mesh/default');
    const snapshot = state.snapshot;
    assert.ok(snapshot !== null);
    const scoped = {
      namespace: 'shop',
      selector: { app: 'db' },
      mode: 'PERMISSIVE',
      ports: { 5432: 'STRICT' },
    } as const;
    state.useSnapshot({ ...snapshot, peerAuthentications: [{ name: 'db', ...scoped }] });
    assert.equal(mode(5432, state), 'SOURCE_UNKNOWN PeerAuthentication/shop/db');
    assert.equal(mode(8080, state), 'rules');
  });
});

describe('the record of a connection that a STRICT mode refuses', () => {
  const facts = plaintextFacts({ clientIp: webIp, destination: db, address: dialled(5432) });
  const closedBy = (...states: [WorkerState, WorkerState?]): unknown[] => {
    const record = new ConnectionRecord({ direction: 'inbound' });
    const netnsPath = '/proc/self/ns/net';
    const workload = HostedWorkload.open({
      name: workloadNamed('shop/db'),
      netnsPath,
      netnsInode: statSync(netnsPath).ino,
      slot: 0,
    });
    const inGrace = { draining: 0, kept: 0 };
    const connection = new TrackedConnection({ record, workload, clock: { nowMs: () => 0 }, inGrace });
    const [first, next] = states;
    const authorized = connection.authorize(first, dialled(5432), facts);
    if (next !== undefined) connection.recheck(next);
    workload.close();
    const { reason, rule, revision, audited } = record.close(authorized.ok ? cut : authorized);
    return [reason, rule && formatRuleRef(rule), revision, audited.map(formatRuleRef)];
  };

  test('names the revision that says so, when it is refused and when it is cut', () => {
    const strict = stateOf('STRICT', web, db);
    assert.deepEqual(closedBy(strict), ['SOURCE_UNKNOWN', 'Mesh/default', 1, []]);
    const open = stateOf('PERMISSIVE', web, db);
    const { snapshot } = open;
    assert.ok(snapshot !== null);
    open.useSnapshot({ ...snapshot, mesh: { ...snapshot.mesh, defaultAction: 'audit' } });
    assert.deepEqual(closedBy(open), ['POLICY_TERMINATED', 'Mesh/default', 1, ['Mesh/default']]);
    strict.useSnapshot({
      ...snapshot,
      revision: 2,
      peerAuthentications: [{ namespace: 'shop', name: 'db', selector: {}, mode: 'STRICT', ports: {} }],
    });
    assert.deepEqual(closedBy(open, strict), ['POLICY_TERMINATED', 'PeerAuthentication/shop/db', 2, []]);
  });
});

describe('what a worker needs before it decides', () => {
  test('is a registry, rules and a certificate that is valid', () => {
    const empty = new WorkerState();
    assert.equal(empty.notReadyReason(web, 0)?.detail, 'no registry yet');
    empty.registry.apply({ image: null, upserts: [web], removals: [] });
    assert.equal(empty.notReadyReason(web, 0)?.detail, 'no rules yet');
    const full = stateOf('STRICT', web, db);
    assert.equal(full.notReadyReason(web, 1999), null);
    assert.equal(full.notReadyReason(web, 2000)?.reason, 'CERT_EXPIRED');
    const { reason } = full.notReadyReason({ ...web, identity: other }, 0) ?? {};
    assert.equal(reason, 'NO_RULES_YET');
    assert.equal(full.registry.workload(workloadName(web)), web);
  });
});

describe('the reserve of file descriptors', () => {
  test('begins before the limit of open files', () => {
    const reserve = new DescriptorReserve({ limit: 1024 });
    assert.equal(reserve.isTouchedBy(895), false);
    assert.equal(reserve.isTouchedBy(896), true);
    assert.equal(new DescriptorReserve({ limit: 64 }).isTouchedBy(47), false);
    assert.equal(new DescriptorReserve({ limit: Number.POSITIVE_INFINITY }).isTouchedBy(1_000_000), false);
  });

  test('reads the soft limit as the kernel prints it', () => {
    const header = 'Limit                     Soft Limit           Hard Limit           Units     \n';
    const line = 'Max open files            1024                 524288               files     \n';
    assert.equal(parseOpenFilesLimit(header + line), 1024);
    assert.equal(
      parseOpenFilesLimit('Max open files            unlimited  unlimited  files\n'),
      Number.POSITIVE_INFINITY,
    );
    assert.equal(parseOpenFilesLimit(''), Number.POSITIVE_INFINITY);
  });
});
