import type { Refused } from '../connection/ending.js';
import type { HostPort } from '../../../shared/address.js';
import { traceIdOf } from '../connection/trace-context.js';
import { ConnectionCut } from '../connection/termination-signal.js';
import { workloadName } from '../../../shared/routing/names.js';
import { StreamPeer } from '../relay/stream-peer.js';
import type { TunnelRequest } from '../tunnel/tunnel.js';
import { whenArrived } from './when-arrived.js';
import { clientOf } from './client-address.js';
import { dial } from './dial.js';
import { tunnelFacts } from './facts.js';
import type { FlowContext } from './flow-context.js';
import { identify, type Arrival } from './identify.js';
import { recordRefusal, runFlow, type Reached } from './run-flow.js';

/**
 * A stream that another agent opens to a workload of this node. A refusal is the answer to its CONNECT; 200 is sent when
 * the application is connected. A source that the registry does not know is refused, because no rule could be applied to
 * it. If only this agent's registry is behind, the source's agent tries once more.
 */
export async function serveTunnelRequest(context: FlowContext, request: TunnelRequest): Promise<void> {
  const { authority: dialled, peerAddress, peerIdentity } = request;
  const workload = context.state.hosted.get(request.workload);
  if (workload === undefined) {
    const detail = `${request.workload} left this node`;
    recordRefusal(context, { direction: 'inbound', workload: request.workload, reason: 'DRAIN', detail });
    request.refuse({ reason: 'DRAIN', rule: null });
    return;
  }
  await runFlow(context, {
    direction: 'inbound',
    workload,
    traceId: traceIdOf(request.headers.traceparent),
    reach: (connection) => {
      const captured = { kind: 'redirected', dialled, client: peerAddress } as const;
      const shownClient = clientOf(request, context.state.registry);
      const { limitPassed: peerLimit } = request;
      const arrival = { context, connection, workload, captured, socket: null, peerIdentity, peerLimit, shownClient };
      return reach(arrival, request);
    },
    refuse: ({ reason, rule }) => request.refuse({ reason, rule }),
  });
}

/** captured → identified → authorized → connected. It is routed by where it arrived: to the workload that it dialled. */
async function reach(
  arrival: Arrival & { readonly shownClient: HostPort },
  request: TunnelRequest,
): Promise<Reached | Refused> {
  const { context, connection, workload, shownClient } = arrival;
  const identified = identify(arrival);
  if (!identified.ok) return identified;
  const { dialled, client, entry } = identified;
  const { peerIdentity } = request;
  const source = context.state.registry.workloadAt(client.ip);
  if (source?.identity === peerIdentity) {
    connection.record.source = { address: shownClient, workload: workloadName(source), identity: peerIdentity };
  }
  const facts = tunnelFacts({ peerIdentity, peerIp: client.ip, destination: entry, authority: dialled });
  const authorized = connection.authorize(context.state, dialled, facts);
  if (!authorized.ok) return authorized;
  endWith(request, connection);
  const { signal } = authorized;
  await whenArrived(context, { workload: workload.name, signal, isReady: () => workload.hasRules });
  const connected = await dial(authorized, {
    descriptors: context.descriptors,
    from: workload,
    client: { ip: client.ip, port: shownClient.port },
    isInside: true,
    timeoutMs: context.settings.connectTimeoutMs,
  });
  if (!connected.ok) return connected;
  connection.record.connected('hbone', connected.from);
  connection.pulse = request.pulse;
  try {
    const source = new StreamPeer(request.accept());
    return { ok: true, source, destination: connected.socket };
  } catch (error) {
    connected.socket.close();
    throw error;
  }
}

/** Gives up the dial when the other agent gives up the request. */
function endWith({ signal }: TunnelRequest, connection: Arrival['connection']): void {
  const onGone = (): void => connection.cut(signal.cut ?? new ConnectionCut({ reason: 'CLIENT_RESET' }));
  if (signal.cut === null) signal.onCut(onGone);
  else onGone();
}
