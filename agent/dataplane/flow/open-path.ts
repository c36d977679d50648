import type { SpiffeId } from '../../../shared/identity.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { Authorized } from '../connection/authorized.js';
import { notAsked, refused, type Refused } from '../connection/ending.js';
import { cutWithin } from '../connection/termination-signal.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { RelayPeer } from '../relay/relay.js';
import { StreamPeer } from '../relay/stream-peer.js';
import type { HostPort } from '../../../shared/address.js';
import type { ConnectionPath } from '../report/closed-connection.js';
import type { Endpoint, WorkloadEndpoint } from '../../../shared/routing/destination.js';
import { workloadName } from '../../../shared/routing/names.js';
import type { OpenResult } from '../tunnel/tunnel.js';
import { whenArrived } from './when-arrived.js';
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
  /** As in `Dialled`; null where the other agent dials. */
  readonly from: HostPort | null;
};

type PathRequest = {
  readonly context: FlowContext;
  readonly connection: TrackedConnection;
  readonly source: HostedWorkload;
  readonly entry: WorkloadEntry;
  readonly client: HostPort;
  readonly endpoint: Endpoint;
};

/** The other agent's registry may be one NATS delivery behind ours: one more try after this pause. */
const registryLagMs = 250;

/** Connects to an authorized destination by the path that fits it. */
export async function openPath(authorized: Authorized, request: PathRequest): Promise<OpenedPath | Refused> {
  const { context } = request;
  const { workload, address } = request.endpoint;
  if (workload === null) return await openPlain(authorized, request, 'passthrough');
  if (workload.protocol === 'tcp') return await openPlain(authorized, request, 'plaintext');
  const endpoint = { workload, address };
  const name = workloadName(workload);
  const isLocal = workload.node === context.node || context.state.hosted.has(name);
  if (!isLocal) return await openTunnel(authorized, request, endpoint);
  const isReady = (): boolean => isLocalReady(context, endpoint);
  await authorized.signal.waitsFor(whenArrived(context, { workload: name, signal: authorized.signal, isReady }));
  const { cut } = authorized.signal;
  if (cut !== null) return refused(cut.reason, cut.detail, cut.rule);
  const local = context.state.hosted.get(name);
  if (local !== undefined) return await openLocal(authorized, request, endpoint, local);
  return notAsked('NOT_MESHED_PEER', `${name} is not captured on this node yet`);
}

function isLocalReady({ state, clock }: FlowContext, { workload }: WorkloadEndpoint): boolean {
  const hosted = state.hosted.get(workloadName(workload));
  return hosted?.hasRules === true && state.notReadyReason(workload, clock.nowMs()) === null;
}

/** Plain TCP from the source's own namespace: the destination sees the same as without the mesh. */
async function openPlain(
  authorized: Authorized,
  { context, connection, source, entry }: PathRequest,
  path: 'passthrough' | 'plaintext',
): Promise<OpenedPath | Refused> {
  const dialled = await dial(authorized, {
    descriptors: context.descriptors,
    from: source,
    isInside: false,
    keepalive: connection.limits?.keepalive,
    ownIps: entry.addresses,
    timeoutMs: context.settings.connectTimeoutMs,
  });
  if (!dialled.ok) return dialled;
  return { ok: true, path, far: dialled.socket, provedIdentity: null, from: dialled.from };
}

/** Straight into the destination's namespace: the evaluation that was made covers both halves of the rules. */
async function openLocal(
  authorized: Authorized,
  { context, connection, source, client }: PathRequest,
  endpoint: WorkloadEndpoint,
  destination: HostedWorkload,
): Promise<OpenedPath | Refused> {
  const notReady = context.state.notReadyReason(endpoint.workload, context.clock.nowMs());
  if (notReady !== null) return notAsked(notReady.reason, notReady.detail);
  const isHairpin = destination === source;
  if (!isHairpin) context.connections.join(connection, destination);
  const limit = context.connections.limitPassed(destination);
  if (limit !== null) {
    context.connections.leave(connection, destination);
    return notAsked('CONN_LIMIT', limit);
  }
  const dialled = await dial(authorized, {
    descriptors: context.descriptors,
    from: destination,
    // A workload that reaches itself through a VIP sees its own address, which it need not borrow.
    ...(isHairpin ? {} : { client }),
    isInside: true,
    timeoutMs: context.settings.connectTimeoutMs,
  });
  if (dialled.ok) {
    const far = dialled.socket;
    return { ok: true, path: 'local', far, provedIdentity: endpoint.workload.identity, from: dialled.from };
  }
  if (!isHairpin) context.connections.leave(connection, destination);
  return dialled;
}

async function openTunnel(
  authorized: Authorized,
  request: PathRequest,
  endpoint: WorkloadEndpoint,
): Promise<OpenedPath | Refused> {
  let opened = await openStream(authorized, request, endpoint);
  if (!opened.ok && opened.reason === 'SOURCE_UNKNOWN' && registryLagMs < request.context.settings.connectTimeoutMs) {
    await cutWithin(authorized.signal, registryLagMs);
    opened = await openStream(authorized, request, endpoint);
  }
  if (!opened.ok) return opened;
  request.connection.pulse = opened.pulse;
  const far = new StreamPeer(opened.stream);
  return { ok: true, path: 'hbone', far, provedIdentity: opened.peerIdentity, from: null };
}

async function openStream(
  authorized: Authorized,
  request: PathRequest,
  endpoint: WorkloadEndpoint,
): Promise<OpenResult> {
  const { context, connection, entry, client } = request;
  return await context.tunnels.open(authorized, {
    sourceWorkload: workloadName(entry),
    sourceIdentity: entry.identity,
    sourceIp: client.ip,
    destinationIp: authorized.address.ip,
    destinationIdentity: endpoint.workload.identity,
    headers: tunnelHeaders({ source: entry, client, traceId: connection.record.traceId }),
  });
}
