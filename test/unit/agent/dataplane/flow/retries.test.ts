import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { describe, it } from 'node:test';
import { EndpointBalancer } from '../../../../../agent/dataplane/balance/endpoint-balancer.js';
import { ConnectionRecord } from '../../../../../agent/dataplane/connection/connection-record.js';
import { unreachable } from '../../../../../agent/dataplane/connection/ending.js';
import type { FlowContext } from '../../../../../agent/dataplane/flow/flow-context.js';
import type { Arrival } from '../../../../../agent/dataplane/flow/identify.js';
import { LiveConnections } from '../../../../../agent/dataplane/flow/live-connections.js';
import { connectFarSide } from '../../../../../agent/dataplane/flow/outbound.js';
import { TrackedConnection } from '../../../../../agent/dataplane/flow/tracked-connection.js';
import { WorkloadLimits } from '../../../../../agent/dataplane/limit/workload-limits.js';
import { HostedWorkload } from '../../../../../agent/dataplane/listen/hosted-workload.js';
import { DescriptorReserve } from '../../../../../agent/dataplane/sockets/descriptor-reserve.js';
import { WorkerState } from '../../../../../agent/dataplane/state/worker-state.js';
import type { TunnelTarget } from '../../../../../agent/dataplane/tunnel/tunnel.js';
import { WorkloadUsage } from '../../../../../agent/dataplane/workload-usage.js';
import type { SpiffeId } from '../../../../../shared/identity.js';
import { plainSnapshot } from '../../../../../shared/policy/snapshot.js';
import { registryKey, type RegistryEntry } from '../../../../../shared/routing/registry-entry.js';
import { nodeNamed, workloadNamed } from '../../../../support/routing/names.js';
import { ip, service, workload } from '../../../../support/routing/registry-entries.js';

const vip = ip('198.18.200.1');
const client = workload('shop/client', ['198.18.0.9']);
const elsewhere = (name: string, address: string) => ({
  ...workload(`shop/${name}`, [address], { app: 'web' }),
  node: nodeNamed('n2'),
});
const [a, b, c] = [elsewhere('a', '198.18.0.1'), elsewhere('b', '198.18.0.2'), elsewhere('c', '198.18.0.3')] as const;

/** Which endpoints a connection tried, in turns, where the registry changes during the first try, and how it ended. */
async function tried(change: { upserts?: RegistryEntry[]; removals?: string[] }) {
  const state = new WorkerState();
  state.registry.apply({ image: null, upserts: [client, service('shop/web', [vip]), a, b, c], removals: [] });
  const certificates = [{ identity: client.identity, chainPem: '', keyPem: '', notAfterMs: 2000 }];
  state.useCertificates({ type: 'certificates', rootsPem: '', certificates });
  const mesh = { defaultAction: 'allow', outbound: 'allow', mtls: 'PERMISSIVE', rootNamespace: 'root' } as const;
  const meta = { revision: 1, createdAt: '', createdBy: '', trustDomain: 'culvert.test', mesh };
  state.useSnapshot({ ...meta, rules: [], authorizationPolicies: [], ...plainSnapshot });
  const usage = new WorkloadUsage({ buffer: WorkloadUsage.allocate(1), workers: 1 });
  const settings = {
    maxConnectionsPerWorkload: 10,
    maxWaitingBytesPerWorkload: 1000,
    maxWaitingBytes: 4000,
    connectRetries: 2,
    connectTimeoutMs: 1000,
  };
  const seen: [ip: string, identity: SpiffeId][] = [];
  const tunnels = {
    open: async (_authorized: unknown, { destinationIp, destinationIdentity }: TunnelTarget) => {
      if (seen.length === 0) state.registry.apply({ image: null, upserts: [], removals: [], ...change });
      seen.push([destinationIp, destinationIdentity]);
      return await Promise.resolve(unreachable('CONNECT_TIMEOUT', destinationIp));
    },
  };
  const connections = new LiveConnections({
    state,
    limits: new WorkloadLimits({ settings, usage, workerIndex: 0 }),
  });
  const parts = {
    node: nodeNamed('n1'),
    state,
    settings,
    tunnels,
    connections,
    balancer: new EndpointBalancer({ random: () => 0, nowMs: () => 0 }),
    descriptors: new DescriptorReserve({ limit: 1_000_000 }),
    clock: { nowMs: () => 1000 },
    nameExternal: () => null,
  };
  const netnsPath = '/proc/self/ns/net';
  const netnsInode = statSync(netnsPath).ino;
  const hosted = HostedWorkload.open({ name: workloadNamed('shop/client'), netnsPath, netnsInode, slot: 0 });
  state.hosted.set(hosted.name, hosted);
  const connection = new TrackedConnection({
    record: new ConnectionRecord({ direction: 'outbound' }),
    workload: hosted,
    clock: parts.clock,
    inGrace: connections.inGrace,
  });
  const dialled = { kind: 'redirected', dialled: { ip: vip, port: 80 }, client: { ip: '198.18.0.9', port: 4000 } };
  const arrival = { context: parts as unknown as FlowContext, connection, workload: hosted, captured: dialled };
  const ended = await connectFarSide({ ...arrival, socket: null, peerIdentity: null } as unknown as Arrival);
  hosted.close();
  return { seen, ended: ended.ok ? 'OK' : `${ended.reason} ${ended.detail}` };
}

describe('another endpoint', () => {
  it('is tried as the registry has it when its turn comes', async () => {
    const renamed = { ...b, identity: 'spiffe://culvert.test/ns/shop/sa/other' as SpiffeId };
    const { seen, ended } = await tried({ upserts: [renamed] });
    assert.deepEqual(seen, [
      ['198.18.0.1', a.identity],
      ['198.18.0.2', renamed.identity],
      ['198.18.0.3', c.identity],
    ]);
    assert.equal(ended, 'CONNECT_TIMEOUT 198.18.0.3');
  });

  it('is passed over when its workload has left meanwhile, also where another has its address', async () => {
    const heir = { ...elsewhere('heir', '198.18.0.2'), labels: { app: 'other' } };
    for (const upserts of [[], [heir]]) {
      const { seen, ended } = await tried({ upserts, removals: [registryKey(b)] });
      assert.deepEqual(
        seen.map(([address]) => address),
        ['198.18.0.1', '198.18.0.3'],
      );
      assert.equal(ended, 'CONNECT_TIMEOUT 198.18.0.3');
    }
  });
});
