import { statSync } from 'node:fs';
import { EndpointBalancer } from '../../../agent/dataplane/balance/endpoint-balancer.js';
import { ConnectionRecord } from '../../../agent/dataplane/connection/connection-record.js';
import type { Refused } from '../../../agent/dataplane/connection/ending.js';
import type { FlowContext } from '../../../agent/dataplane/flow/flow-context.js';
import type { Arrival } from '../../../agent/dataplane/flow/identify.js';
import { LiveConnections } from '../../../agent/dataplane/flow/live-connections.js';
import { connectFarSide } from '../../../agent/dataplane/flow/outbound.js';
import { TrackedConnection } from '../../../agent/dataplane/flow/tracked-connection.js';
import { WorkloadLimits } from '../../../agent/dataplane/limit/workload-limits.js';
import { HostedWorkload } from '../../../agent/dataplane/listen/hosted-workload.js';
import { DescriptorReserve } from '../../../agent/dataplane/sockets/descriptor-reserve.js';
import { WorkerState } from '../../../agent/dataplane/state/worker-state.js';
import type { TunnelTarget } from '../../../agent/dataplane/tunnel/tunnel.js';
import { WorkloadUsage } from '../../../agent/dataplane/workload-usage.js';
import { plainSnapshot, type Snapshot } from '../../../shared/policy/snapshot.js';
import type { RegistryEntry } from '../../../shared/routing/registry-entry.js';
import { nodeNamed, workloadNamed } from '../routing/names.js';
import { ip, service, workload } from '../routing/registry-entries.js';

const vip = ip('198.18.200.1');
const client = workload('shop/client', ['198.18.0.9']);

/** A workload of another node, which the service `shop/web` has as an endpoint. */
export function elsewhere(name: string, address: string) {
  return { ...workload(`shop/${name}`, [address], { app: 'web' }), node: nodeNamed('n2') };
}

/** The far side of connections that `shop/client` opens to `shop/web`: their steps are real, and each tunnel is `open`. */
export class OutboundWorld implements Disposable {
  readonly state = new WorkerState();
  readonly connections: LiveConnections;
  readonly #context: FlowContext;
  readonly #hosted: HostedWorkload;

  constructor(init: {
    readonly endpoints: readonly RegistryEntry[];
    readonly open: (target: TunnelTarget) => Refused;
    readonly nowMs?: () => number;
    readonly random?: () => number;
  }) {
    const { state } = this;
    const upserts = [client, service('shop/web', [vip]), ...init.endpoints];
    state.registry.apply({ image: null, upserts, removals: [] });
    const certificates = [{ identity: client.identity, chainPem: '', keyPem: '', notAfterMs: Number.MAX_SAFE_INTEGER }];
    state.useCertificates({ type: 'certificates', rootsPem: '', certificates });
    this.use({});
    const usage = new WorkloadUsage({ buffer: WorkloadUsage.allocate(1), workers: 1 });
    const settings = {
      maxConnectionsPerWorkload: 10,
      maxWaitingBytesPerWorkload: 1000,
      maxWaitingBytes: 4000,
      connectRetries: 2,
      connectTimeoutMs: 1000,
    };
    const limits = new WorkloadLimits({ settings, usage, workerIndex: 0 });
    this.connections = new LiveConnections({ state, limits });
    const parts = {
      node: nodeNamed('n1'),
      state,
      settings,
      tunnels: {
        open: async (_authorized: unknown, target: TunnelTarget) => await Promise.resolve(init.open(target)),
      },
      connections: this.connections,
      balancer: new EndpointBalancer({ random: () => 0, nowMs: () => 0 }),
      descriptors: new DescriptorReserve({ limit: 1_000_000 }),
      clock: { nowMs: init.nowMs ?? (() => 1000) },
      random: init.random ?? (() => 0),
      nameExternal: () => null,
    };
    this.#context = parts as unknown as FlowContext;
    const netnsPath = '/proc/self/ns/net';
    const netnsInode = statSync(netnsPath).ino;
    this.#hosted = HostedWorkload.open({ name: workloadNamed('shop/client'), netnsPath, netnsInode, slot: 0 });
    state.hosted.set(this.#hosted.name, this.#hosted);
  }

  /** Rules that allow everything, with these parts in place of theirs. Open connections are checked again. */
  use(parts: Partial<Snapshot>): void {
    const mesh = { defaultAction: 'allow', outbound: 'allow', mtls: 'PERMISSIVE', rootNamespace: 'root' } as const;
    const meta = { revision: 1, createdAt: '', createdBy: '', trustDomain: 'culvert.test', mesh };
    this.state.useSnapshot({ ...meta, rules: [], authorizationPolicies: [], ...plainSnapshot, ...parts });
  }

  /** A connection that is not connected yet, and what connecting it comes to. */
  connect(): { readonly connection: TrackedConnection; readonly ended: Promise<string> } {
    const connection = new TrackedConnection({
      record: new ConnectionRecord({ direction: 'outbound' }),
      workload: this.#hosted,
      clock: this.#context.clock,
      inGrace: this.connections.inGrace,
    });
    const dialled = { kind: 'redirected', dialled: { ip: vip, port: 80 }, client: { ip: '198.18.0.9', port: 4000 } };
    const arrival = { context: this.#context, connection, workload: this.#hosted, captured: dialled };
    const reached = connectFarSide({ ...arrival, socket: null, peerIdentity: null } as unknown as Arrival);
    const ended = reached.then((end) => (end.ok ? 'OK' : `${end.reason} ${end.detail}`));
    return { connection, ended };
  }

  [Symbol.dispose](): void {
    this.#hosted.close();
  }
}
