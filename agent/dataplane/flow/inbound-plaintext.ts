import type { Refused } from '../connection/ending.js';
import type { CapturedDestination } from '../listen/captured-destination.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { ApplicationSocket } from '../relay/application-socket.js';
import { dial } from './dial.js';
import { plaintextFacts } from './facts.js';
import type { FlowContext } from './flow-context.js';
import { identify, type SocketArrival } from './identify.js';
import { refuseClient } from './refuse-client.js';
import { runFlow, type Reached } from './run-flow.js';

/**
 * A plain connection from anywhere to an application of this node, accepted on port 15006 of its namespace. Takes over the
 * paused socket; a refusal reaches the client as RST. Where plaintext is STRICT for the port it is refused. Where it is
 * PERMISSIVE the rules decide, for a source that proved no identity. The application sees the client's address.
 */
export async function serveInboundPlaintext(
  context: FlowContext,
  workload: HostedWorkload,
  socket: ApplicationSocket,
  captured: CapturedDestination,
): Promise<void> {
  await runFlow(context, {
    direction: 'inbound',
    workload,
    reach: (connection) => reach({ context, connection, workload, captured, socket, peerIdentity: null }),
    refuse: (ending) => refuseClient(context, { socket, workload, captured, direction: 'inbound' }, ending),
  });
}

/** captured → identified → authorized → connected. It is routed by where it arrived: to the workload that it dialled. */
async function reach(arrival: SocketArrival): Promise<Reached | Refused> {
  const { context, connection, workload } = arrival;
  const identified = identify(arrival);
  if (!identified.ok) return identified;
  const { dialled, client, entry } = identified;
  const facts = plaintextFacts({ clientIp: client.ip, destination: entry, address: dialled });
  const authorized = connection.authorize(context.state, dialled, facts);
  if (!authorized.ok) return authorized;
  const connected = await dial(authorized, {
    descriptors: context.descriptors,
    from: workload,
    client,
    isInside: true,
    timeoutMs: context.settings.connectTimeoutMs,
  });
  if (!connected.ok) return connected;
  connection.record.connected('plaintext', connected.from);
  return { ok: true, source: arrival.socket, destination: connected.socket };
}
