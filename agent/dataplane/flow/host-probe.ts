import { workloadName } from '../../../shared/routing/names.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { refused, type Refused } from '../connection/ending.js';
import type { CapturedDestination } from '../listen/captured-destination.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { ApplicationSocket } from '../relay/application-socket.js';
import { dial } from './dial.js';
import type { FlowContext } from './flow-context.js';
import { identify, unreadable } from './identify.js';
import { refuseClient } from './refuse-client.js';
import { runFlow, type Reached } from './run-flow.js';
import type { TrackedConnection } from './tracked-connection.js';
import { whenArrived } from './when-arrived.js';

type Probe = {
  readonly context: FlowContext;
  readonly connection: TrackedConnection;
  readonly captured: CapturedDestination;
  readonly socket: ApplicationSocket;
};

/**
 * A connection that a program of the host opened to a workload of this node, and that the host's rules led to the agent
 * because the settings name this program (`hostProbes`). Takes over the socket; a refusal reaches the client as RST, and
 * has a record like any other. The same checks as for other connections, and no rule. What was not redirected is no probe.
 */
export async function serveHostProbe(
  context: FlowContext,
  socket: ApplicationSocket,
  captured: CapturedDestination,
): Promise<void> {
  await runFlow(context, {
    direction: 'inbound',
    workload: null,
    reach: (connection) => reach({ context, connection, captured, socket }),
    refuse: (ending) => refuseClient(context, { socket, workload: null, captured, direction: 'inbound' }, ending),
  });
}

/** captured → identified → connected. The settings of the agent authorize it. */
async function reach(probe: Probe): Promise<Reached | Refused> {
  const { context, connection, captured, socket } = probe;
  const { record } = connection;
  const { dialled: requested, client: prober } = captured;
  record.requested = requested;
  record.source = { address: prober, workload: null, identity: null };
  record.destination = { address: requested, workload: null, identity: null };
  if (captured.kind === 'unreadable') return unreadable(captured);
  if (captured.kind === 'direct') return refused('LOOP_DETECTED', `port ${captured.dialled.port}`);
  record.path = 'probe';
  if (context.descriptors.isTouchedByNumbered(socket)) return refused('RESOURCE_FD', 'accept');
  const workload = await arrivedAt(probe);
  if ('reason' in workload) return workload;
  context.connections.join(connection, workload);
  const identified = identify({ context, connection, workload, captured, socket, peerIdentity: null });
  if (!identified.ok) return identified;
  const connected = await dial(connection.admitProbe(identified.dialled), {
    descriptors: context.descriptors,
    from: workload,
    client: identified.client,
    isInside: true,
    timeoutMs: context.settings.connectTimeoutMs,
  });
  if (!connected.ok) return connected;
  record.connected('probe', connected.from);
  return { ok: true, source: socket, destination: connected.socket };
}

/**
 * The workload that was dialled. The host's rules outlast the agent that loaded them, so probes come to the next one before it
 * serves every workload: they wait as connections to a new workload do.
 */
async function arrivedAt({ context, connection, captured }: Probe): Promise<HostedWorkload | Refused> {
  const { state, clock } = context;
  const { dialled } = captured;
  if (dialled === null) return refused('DESTINATION_UNREADABLE');
  const entryThere = (): WorkloadEntry | undefined => state.registry.workloadAt(dialled.ip);
  const hosted = (entry: WorkloadEntry): HostedWorkload | undefined => state.hosted.get(workloadName(entry));
  const isReady = (): boolean => {
    const entry = entryThere();
    if (entry === undefined || hosted(entry)?.hasRules !== true) return false;
    return state.notReadyReason(entry, clock.nowMs()) === null;
  };
  await whenArrived(context, { workload: dialled.ip, signal: connection.signal, isReady });
  const { cut } = connection.signal;
  if (cut !== null) return refused(cut.reason, cut.detail, cut.rule);
  const entry = entryThere();
  if (entry === undefined) {
    if (!state.registry.isFilled) return refused('NO_RULES_YET', 'no registry yet');
    const key = state.registry.unreadableAt(dialled.ip);
    if (key === undefined) return refused('DRAIN', `no workload is registered at ${dialled.ip}`);
    const detail = `${dialled.ip} belongs to ${key}, whose registry entry this agent cannot read: upgrade the agent`;
    return refused('REGISTRY_UNREADABLE', detail);
  }
  const name = workloadName(entry);
  connection.record.destination = { address: dialled, workload: name, identity: entry.identity };
  if (entry.node !== context.node) return refused('DRAIN', `${name} left this node`);
  return hosted(entry) ?? refused('NOT_MESHED_PEER', `${name} is not captured on this node yet`);
}
