import type net from 'node:net';
import { workloadName } from '../../../shared/routing/names.js';
import { resetSocket } from '../../native/addon.js';
import type { Refused } from '../connection/ending.js';
import { capturedDestination } from '../listen/captured-destination.js';
import { dial } from './dial.js';
import type { FlowContext } from './flow-context.js';
import { identify, type SocketArrival } from './identify.js';
import { refuseClient } from './refuse-client.js';
import { runFlow, type Reached } from './run-flow.js';

/**
 * A connection that a program of the host opened to a workload of this node, and that the host's rules led to the agent
 * because the settings name this program (`hostProbes`). Takes over the paused socket; a refusal reaches the client as RST. The
 * same checks as for other connections, and no rule. What was not redirected, or not to a workload, is no probe.
 */
export async function serveHostProbe(context: FlowContext, socket: net.Socket): Promise<void> {
  const captured = capturedDestination(socket);
  const entry = captured.kind === 'redirected' ? context.state.registry.workloadAt(captured.dialled.ip) : undefined;
  const workload = entry === undefined ? undefined : context.state.hosted.get(workloadName(entry));
  if (workload === undefined) {
    resetSocket(socket);
    return;
  }
  await runFlow(context, {
    direction: 'inbound',
    workload,
    reach: (connection) => reach({ context, connection, workload, captured, socket, peerIdentity: null }),
    refuse: (ending) => refuseClient(context, { socket, workload, captured, direction: 'inbound' }, ending),
  });
}

/** captured → identified → connected. The settings of the agent authorize it. */
async function reach(arrival: SocketArrival): Promise<Reached | Refused> {
  const { context, connection, workload, socket } = arrival;
  connection.record.path = 'probe';
  const identified = identify(arrival);
  if (!identified.ok) return identified;
  const connected = await dial(connection.admitProbe(identified.dialled), {
    descriptors: context.descriptors,
    from: workload,
    client: identified.client,
    isInside: true,
    timeoutMs: context.settings.connectTimeoutMs,
  });
  if (!connected.ok) return connected;
  connection.record.connected('probe', connected.from);
  return { ok: true, source: socket, destination: connected.socket };
}
