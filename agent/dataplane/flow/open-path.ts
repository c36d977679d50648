import type { HostPort, IpAddress } from '../../../shared/address.js';
import type { SpiffeId } from '../../../shared/identity.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { ConnectionPath } from '../report/closed-connection.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { RelayPeer } from '../relay/relay.js';
import type { Endpoint } from '../../../shared/routing/destination.js';
import { workloadName } from '../route/registry-index.js';
import type { OpenResult } from '../tunnel/tunnel.js';
import type { ConnectFailure } from './connect-failure.js';
import { cutWithin } from '../connection/cut-within.js';
import { dial } from './dial.js';
import type { FlowContext } from './flow-context.js';
import type { TrackedConnection } from './tracked-connection.js';
import { tunnelHeaders } from './tunnel-headers.js';

export type OpenedPath = {
  readonly ok: true;
  readonly path: ConnectionPath;
  readonly far: RelayPeer;
  /** By its certificate, or the registry's for a workload of this host; null on a plain path. */
  readonly provedIdentity: SpiffeId | null;
};

type PathRequest = {
  readonly context: FlowContext;
  readonly connection: TrackedConnection;
  readonly source: HostedWorkload;
  readonly entry: WorkloadEntry;
  readonly clientIp: IpAddress;
  readonly endpoint: Endpoint | null;
  readonly address: HostPort;
};

/** The other agent's registry can be behind ours by a NATS delivery: one more try after this pause. */
const registryLagMs = 250;

/** Connects to an admitted destination by the path that fits it. */
export async function openPath(request: PathRequest): Promise<OpenedPath | ConnectFailure> {
  const { context, endpoint } = request;
  if (endpoint === null) return await openPlain(request, 'passthrough');
  if (endpoint.workload.protocol === 'tcp') return await openPlain(request, 'plaintext');
  const local = context.state.hosted.get(workloadName(endpoint.workload));
  if (local !== undefined) return await openLocal(request, endpoint, local);
  if (endpoint.workload.node === context.node) {
    const detail = `${workloadName(endpoint.workload)} is not captured on this node yet`;
    return { ok: false, reason: 'NOT_MESHED_PEER', detail, isRetryable: true };
  }
  return await openTunnel(request, endpoint);
}

/** Plain TCP from the source's own namespace: the destination sees what it would see without the mesh. */
async function openPlain(
  { context, connection, source, address }: PathRequest,
  path: 'passthrough' | 'plaintext',
): Promise<OpenedPath | ConnectFailure> {
  const dialled = await dial({
    descriptors: context.descriptors,
    from: source,
    target: address,
    timeoutMs: context.settings.connectTimeoutMs,
    signal: connection.signal,
  });
  return dialled.ok ? { ok: true, path, far: dialled.socket, provedIdentity: null } : dialled;
}

/** Straight into the destination's namespace: both halves of the rules are the one evaluation that has been made. */
async function openLocal(
  { context, connection, source, clientIp, address }: PathRequest,
  endpoint: Endpoint,
  destination: HostedWorkload,
): Promise<OpenedPath | ConnectFailure> {
  const notReady = context.state.notReadyReason(endpoint.workload, context.clock.nowMs());
  if (notReady !== null) return { ok: false, ...notReady, isRetryable: true };
  const isHairpin = destination === source;
  if (!isHairpin) context.connections.join(connection, destination);
  const limit = context.connections.limitPassed(destination);
  if (limit !== null) {
    context.connections.leave(connection, destination);
    return { ok: false, reason: 'CONN_LIMIT', detail: limit, isRetryable: true };
  }
  const dialled = await dial({
    descriptors: context.descriptors,
    from: destination,
    target: address,
    // A workload that reaches itself through a VIP sees its own address, which needs no borrowing.
    ...(isHairpin ? {} : { sourceIp: clientIp }),
    timeoutMs: context.settings.connectTimeoutMs,
    signal: connection.signal,
  });
  if (dialled.ok) {
    return { ok: true, path: 'local', far: dialled.socket, provedIdentity: endpoint.workload.identity };
  }
  if (!isHairpin) context.connections.leave(connection, destination);
  return dialled;
}

async function openTunnel(request: PathRequest, endpoint: Endpoint): Promise<OpenedPath | ConnectFailure> {
  let opened = await openStream(request, endpoint);
  if (!opened.ok && opened.reason === 'SOURCE_UNKNOWN' && registryLagMs < request.context.settings.connectTimeoutMs) {
    await cutWithin(request.connection.signal, registryLagMs);
    opened = await openStream(request, endpoint);
  }
  if (!opened.ok) return opened;
  return { ok: true, path: 'hbone', far: opened.stream, provedIdentity: opened.peerIdentity };
}

async function openStream(request: PathRequest, endpoint: Endpoint): Promise<OpenResult> {
  const { context, connection, entry, clientIp, address } = request;
  return await context.tunnels.open(
    {
      sourceWorkload: workloadName(entry),
      sourceIdentity: entry.identity,
      sourceIp: clientIp,
      destinationIp: address.ip,
      destinationIdentity: endpoint.workload.identity,
      authority: address,
      headers: tunnelHeaders({ source: entry, sourceIp: clientIp, traceId: connection.record.traceId }),
    },
    { signal: connection.signal },
  );
}
