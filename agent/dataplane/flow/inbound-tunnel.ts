import type { TunnelRequest } from '../tunnel/tunnel.js';
import { isOwnPort } from '../listen/captured-destination.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import { ConnectionCut } from '../connection/connection-cut.js';
import { workloadName } from '../route/registry-index.js';
import { admitInbound } from './admit-inbound.js';
import { dial } from './dial.js';
import { tunnelFacts } from './facts.js';
import type { FlowContext } from './flow-context.js';
import { runFlow, type Reached } from './run-flow.js';
import type { TrackedConnection } from './tracked-connection.js';
import { traceIdOf } from './tunnel-headers.js';

/**
 * A stream that another agent opens to a workload of this node. The road: record → destination (the listener) → source
 * (the workload registered at the peer's address, with the identity that the certificate proves) → ingress policy →
 * dial the application with the client's address → 200 → relay → record closed.
 *
 * A source that the registry does not know is refused: its labels are unknown, so no rule could be applied. When this
 * agent's registry is merely behind, the source's agent tries once more.
 */
export async function serveTunnelRequest(context: FlowContext, request: TunnelRequest): Promise<void> {
  const workload = context.state.hosted.get(request.workload);
  if (workload === undefined) {
    request.refuse({ reason: 'DRAIN', rule: '' });
    return;
  }
  await runFlow(context, {
    direction: 'inbound',
    workload,
    traceId: traceIdOf(request.headers.traceparent),
    reach: (connection) => reach(context, workload, request, connection),
    refuse: ({ reason, rule }) => request.refuse({ reason, rule: rule ?? '' }),
  });
}

async function reach(
  context: FlowContext,
  workload: HostedWorkload,
  request: TunnelRequest,
  connection: TrackedConnection,
): Promise<Reached> {
  const { state, settings } = context;
  const { authority, peerAddress, peerIdentity } = request;
  const { record } = connection;
  record.requested = authority;
  record.source = { address: peerAddress, workload: null, identity: peerIdentity };
  record.destination = { address: authority, workload: workload.name, identity: null };

  if (isOwnPort(authority.port)) {
    return { ok: false, ending: { reason: 'LOOP_DETECTED', detail: `port ${authority.port}` } };
  }
  const admitted = admitInbound({ context, workload, address: authority, connection });
  if (!admitted.ok) return admitted;
  const { destination } = admitted;
  const notReady = state.notReadyReason(destination, context.clock.nowMs());
  if (notReady !== null) return { ok: false, ending: notReady };
  const source = state.registry.workloadAt(peerAddress.ip);
  if (source?.identity === peerIdentity) {
    record.source = { address: peerAddress, workload: workloadName(source), identity: peerIdentity };
  }

  const facts = tunnelFacts({ peerIdentity, peerIp: peerAddress.ip, destination, authority });
  const denied = connection.authorize(state, facts);
  if (denied !== null) return { ok: false, ending: denied };

  const onGone = (): void => connection.cut(request.signal.cut ?? new ConnectionCut({ reason: 'CLIENT_RESET' }));
  if (request.signal.cut === null) request.signal.onCut(onGone);
  else onGone();
  const dialled = await dial({
    descriptors: context.descriptors,
    from: workload,
    target: authority,
    sourceIp: peerAddress.ip,
    timeoutMs: settings.connectTimeoutMs,
    signal: connection.signal,
  });
  if (!dialled.ok) return { ok: false, ending: dialled };
  record.connected('hbone');
  try {
    return { ok: true, source: request.accept(), destination: dialled.socket };
  } catch (error) {
    dialled.socket.destroy();
    throw error;
  }
}
