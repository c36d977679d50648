import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { describe, it, test } from 'node:test';
import { notAsked, unreachable } from '../../../../../agent/dataplane/connection/ending.js';
import { ConnectionRecord } from '../../../../../agent/dataplane/connection/connection-record.js';
import { LiveConnections } from '../../../../../agent/dataplane/flow/live-connections.js';
import { TrackedConnection, type FactsSource } from '../../../../../agent/dataplane/flow/tracked-connection.js';
import { WorkloadLimits } from '../../../../../agent/dataplane/limit/workload-limits.js';
import { HostedWorkload } from '../../../../../agent/dataplane/listen/hosted-workload.js';
import { WorkerState } from '../../../../../agent/dataplane/state/worker-state.js';
import { WorkloadUsage } from '../../../../../agent/dataplane/workload-usage.js';
import type { IpAddress } from '../../../../../shared/address.js';
import { plainRule, plainSnapshot, type CompiledRule } from '../../../../../shared/policy/snapshot.js';
import { workloadNamed } from '../../../../support/routing/names.js';

const [client, first, second] = ['198.18.11.2', '198.18.12.2', '198.18.12.3'] as IpAddress[] as [
  IpAddress,
  IpAddress,
  IpAddress,
];

/** Rules that allow everything but one address, whose open connections they keep. */
function useRules(state: WorkerState, revision: number, denied: readonly IpAddress[]): void {
  const rules = denied.map((ip): CompiledRule => ({
    ...plainRule,
    name: 'closed',
    tier: 'team',
    priority: 1,
    action: 'deny',
    mode: 'enforce',
    onChange: { kind: 'keep' },
    from: [],
    to: [{ cidrs: [`${ip}/32`] }],
    ports: [],
  }));
  state.useSnapshot({
    revision,
    createdAt: '',
    createdBy: '',
    trustDomain: 'culvert.test',
    mesh: { defaultAction: 'allow', outbound: 'allow', mtls: 'STRICT', rootNamespace: 'root' },
    authorizationPolicies: [],
    ...plainSnapshot,
    rules,
  });
}

function factsTo(ip: IpAddress): FactsSource {
  const party = (at: IpAddress) => ({ ip: at, identity: null, workload: null });
  return () => ({ connection: { source: party(client), destination: party(ip), port: 80 } });
}

test('a connection that goes to another endpoint while it is in a grace period leaves the period, and its count', async () => {
  const netnsPath = '/proc/self/ns/net';
  const netnsInode = statSync(netnsPath).ino;
  const workload = HostedWorkload.open({ name: workloadNamed('shop/web'), netnsPath, netnsInode, slot: 0 });
  const state = new WorkerState();
  const usage = new WorkloadUsage({ buffer: WorkloadUsage.allocate(1), workers: 1 });
  const settings = { maxConnectionsPerWorkload: 10, maxWaitingBytesPerWorkload: 1000, maxWaitingBytes: 4000 };
  const limits = new WorkloadLimits({ settings, usage, workerIndex: 0 });
  const connections = new LiveConnections({ state, limits });
  const connection = new TrackedConnection({
    record: new ConnectionRecord({ direction: 'outbound' }),
    workload,
    clock: { nowMs: () => 0 },
    inGrace: connections.inGrace,
  });
  connections.add(connection);

  useRules(state, 1, []);
  assert.equal(connection.authorize(state, { ip: first, port: 80 }, factsTo(first)).ok, true);
  useRules(state, 2, [first]);
  await connections.recheckAll();
  assert.deepEqual(connections.inGrace, { draining: 0, kept: 1 });
  assert.equal(connection.authorize(state, { ip: second, port: 80 }, factsTo(second)).ok, true);
  assert.deepEqual(connections.inGrace, { draining: 0, kept: 0 });
  connections.remove(connection);
  assert.deepEqual(connections.inGrace, { draining: 0, kept: 0 });
  workload.close();
});

test('a connection that has ended leaves its place of a destination before its record is closed', () => {
  const usage = new WorkloadUsage({ buffer: WorkloadUsage.allocate(1), workers: 1 });
  const settings = { maxConnectionsPerWorkload: 10, maxWaitingBytesPerWorkload: 1000, maxWaitingBytes: 4000 };
  const limits = new WorkloadLimits({ settings, usage, workerIndex: 0 });
  const connections = new LiveConnections({ state: new WorkerState(), limits });
  const connection = new TrackedConnection({
    record: new ConnectionRecord({ direction: 'outbound' }),
    workload: null,
    clock: { nowMs: () => 0 },
    inGrace: connections.inGrace,
  });
  const seen: string[] = [];
  connections.add(connection);
  connection.goTo({ end: (isFailed) => void seen.push(`endpoint ${isFailed}`) }, null);
  connection.take({ connected: () => void seen.push('connected'), leave: () => void seen.push('place') });
  connections.release(connection);
  assert.deepEqual(seen, ['endpoint false', 'place']);
  assert.ok(connections.has(connection));
  assert.ok(connections.remove(connection));
  assert.deepEqual(seen, ['endpoint false', 'place']);
});

describe('an endpoint', () => {
  /** Whether others are taken before it from now on, after each way in which a connection to it may end. */
  function avoided(
    end: (connection: TrackedConnection) => void,
    how: { firstByteAtMs?: number; isAtLimit?: boolean } = {},
  ): boolean | undefined {
    const record = new ConnectionRecord({ direction: 'outbound' });
    record.firstByteAtMs = how.firstByteAtMs ?? null;
    const inGrace = { kept: 0, draining: 0 };
    const connection = new TrackedConnection({ record, workload: null, clock: { nowMs: () => 0 }, inGrace });
    const ends: boolean[] = [];
    const { isAtLimit } = how;
    const health = isAtLimit === undefined ? null : { connected: () => {}, end: () => isAtLimit };
    connection.goTo({ end: (isFailed) => ends.push(isFailed) }, health);
    end(connection);
    connection.leave();
    return ends[0];
  }
  const reset = (connection: TrackedConnection): void => connection.judge({ reason: 'PEER_RESET' });
  const unreached = (connection: TrackedConnection): void =>
    connection.leaveEndpoint(unreachable('CONNECT_REFUSED', ''));

  it('that resets a connection before a byte came is avoided, and one that served it is not', () => {
    assert.equal(avoided(reset), true);
    assert.equal(avoided(reset, { firstByteAtMs: 5 }), false);
    assert.equal(
      avoided((connection) => connection.judge({ reason: 'CLIENT_RESET' })),
      false,
    );
  });

  it('that could not be reached is avoided, but not for what this agent did', () => {
    assert.equal(avoided(unreached), true);
    assert.equal(
      avoided((connection) => connection.leaveEndpoint(notAsked('CONNECT_TIMEOUT', ''))),
      false,
    );
  });

  it('is left to what ejects endpoints, unless that may eject no more', () => {
    assert.deepEqual(
      [reset, unreached].flatMap((end) => [false, true].map((isAtLimit) => avoided(end, { isAtLimit }))),
      [false, true, false, true],
    );
    // What does not count there does here.
    const stranger = (connection: TrackedConnection): void =>
      connection.leaveEndpoint(unreachable('PEER_IDENTITY', ''));
    assert.equal(avoided(stranger, { isAtLimit: false }), true);
  });
});
