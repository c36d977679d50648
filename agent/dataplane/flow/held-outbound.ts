import { refused, type Ending, type Refused } from '../connection/ending.js';
import type { HeldConnect } from '../listen/late/held-connect.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { FlowContext } from './flow-context.js';
import { connectFarSide } from './outbound.js';
import { runFlow, type Reached } from './run-flow.js';
import type { TrackedConnection } from './tracked-connection.js';

/**
 * A connection whose client is still in connect(2), because its port has `earlyAccept: false`. It takes the same steps as
 * any other, and is accepted after the last of them. A refusal reaches the application as ECONNREFUSED.
 */
export async function serveHeld(context: FlowContext, workload: HostedWorkload, connect: HeldConnect): Promise<void> {
  await runFlow(context, {
    direction: 'outbound',
    workload,
    reach: (connection) => reach(context, workload, connection, connect),
    refuse: (ending) => answer(connect, ending),
  });
}

async function reach(
  context: FlowContext,
  workload: HostedWorkload,
  connection: TrackedConnection,
  connect: HeldConnect,
): Promise<Reached | Refused> {
  const { client, dialled } = connect;
  // It may have waited for its turn.
  if (connect.isLetGo) return notAccepted(connection, connect);
  const captured = { kind: 'redirected', client, dialled } as const;
  const arrival = { context, connection, workload, captured, socket: null, peerIdentity: null };
  const opened = await connectFarSide(arrival);
  if (!opened.ok) return opened;
  const socket = await connect.accept(connection.signal);
  if (socket === null) {
    opened.far.reset();
    return notAccepted(connection, connect);
  }
  if (!context.descriptors.isTouchedByNumbered(socket)) return { ok: true, source: socket, destination: opened.far };
  socket.reset();
  opened.far.reset();
  return refused('RESOURCE_FD', 'accept');
}

function notAccepted({ signal: { cut } }: TrackedConnection, { isLetGo }: HeldConnect): Refused {
  if (cut !== null) return refused(cut.reason, cut.detail, cut.rule);
  if (isLetGo) return refused('DRAIN', 'the agent no longer holds connects: the client sends its SYN again');
  return refused('CLIENT_RESET', 'left before its connection was accepted');
}

/**
 * No answer from the far side is no answer to the client, whose kernel asks again and gives up with ETIMEDOUT, as it would
 * without the mesh.
 */
function answer(connect: HeldConnect, { reason }: Ending): void {
  if (reason === 'CONNECT_TIMEOUT') connect.forget();
  else connect.refuse();
}
