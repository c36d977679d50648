import type net from 'node:net';
import type { IpAddress } from '../../../shared/address.js';
import { capturedDestination, isOwnPort, type CapturedDestination } from '../listen/captured-destination.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import { admitInbound } from './admit-inbound.js';
import { dial } from './dial.js';
import { plaintextFacts } from './facts.js';
import type { FlowContext } from './flow-context.js';
import { ignoreError } from '../sockets/ignore-error.js';
import { runFlow, type Reached } from './run-flow.js';
import type { TrackedConnection } from './tracked-connection.js';

/**
 * A plain connection from anywhere to an application of this node, arrived on port 15006 of its namespace. Refused where
 * the mesh or a PeerAuthentication is STRICT for the port; where it is PERMISSIVE the rules decide, for a source that
 * proved nothing: whoever has that address. The application sees the client's address. A refusal reaches the client as RST.
 */
export async function serveInboundPlaintext(
  context: FlowContext,
  workload: HostedWorkload,
  socket: net.Socket,
): Promise<void> {
  socket.on('error', ignoreError);
  const captured = capturedDestination(socket);
  if (captured.kind === 'unreadable') {
    socket.destroy();
    return;
  }
  await runFlow(context, {
    direction: 'inbound',
    workload,
    reach: (connection) => reach({ context, workload, socket, captured, connection }),
    refuse: () => socket.resetAndDestroy(),
  });
}

async function reach(inbound: {
  readonly context: FlowContext;
  readonly workload: HostedWorkload;
  readonly socket: net.Socket;
  readonly captured: Exclude<CapturedDestination, { kind: 'unreadable' }>;
  readonly connection: TrackedConnection;
}): Promise<Reached> {
  const { context, workload, socket, captured, connection } = inbound;
  const { state, settings } = context;
  const { dialled, client } = captured;
  const { record } = connection;
  record.requested = dialled;
  record.source = { address: client, workload: null, identity: null };
  record.destination = { address: dialled, workload: workload.name, identity: null };

  if (captured.kind === 'direct' || isOwnPort(dialled.port)) {
    return { ok: false, ending: { reason: 'LOOP_DETECTED', detail: '' } };
  }
  if (isLoopback(dialled.ip)) {
    const detail = `${dialled.ip} is loopback of ${workload.name}, which nobody reaches from outside`;
    return { ok: false, ending: { reason: 'HOST_UNREACHABLE', detail } };
  }
  if (context.descriptors.isTouchedBySocket(socket)) {
    return { ok: false, ending: { reason: 'RESOURCE_FD', detail: 'accept' } };
  }
  const admitted = admitInbound({ context, workload, address: dialled, connection });
  if (!admitted.ok) return admitted;
  const { destination } = admitted;

  const denied = connection.authorize(state, plaintextFacts({ clientIp: client.ip, destination, address: dialled }));
  if (denied !== null) return { ok: false, ending: denied };

  const reached = await dial({
    descriptors: context.descriptors,
    from: workload,
    target: dialled,
    sourceIp: client.ip,
    timeoutMs: settings.connectTimeoutMs,
    signal: connection.signal,
  });
  if (!reached.ok) return { ok: false, ending: reached };
  record.connected('plaintext');
  return { ok: true, source: socket, destination: reached.socket };
}

/**
 * The kernel drops packets from outside to 127.0.0.0/8, but only after the redirect has made them ones to us: dialled on
 * behalf of a neighbour on the same link, they would reach what the application serves to itself alone.
 */
function isLoopback(ip: IpAddress): boolean {
  return ip === '::1' || ip.startsWith('127.');
}
