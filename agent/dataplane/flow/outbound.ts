import type net from 'node:net';
import { isSelfTest } from '../../self-test-target.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import type { Ending } from '../connection/connection-record.js';
import { capturedDestination, isOwnPort, type CapturedDestination } from '../listen/captured-destination.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import { resolveDestination, type Endpoint } from '../../../shared/routing/destination.js';
import { workloadName } from '../route/registry-index.js';
import type { ConnectFailure } from './connect-failure.js';
import type { FlowContext } from './flow-context.js';
import { ignoreError } from '../sockets/ignore-error.js';
import { openPath, type OpenedPath } from './open-path.js';
import { outboundFacts } from './facts.js';
import { runFlow, type Reached } from './run-flow.js';
import type { TrackedConnection } from './tracked-connection.js';

type Captured = Exclude<CapturedDestination, { kind: 'unreadable' }>;

/**
 * A connection that an application of this node opens, arrived on port 15001 of its namespace. Takes over the paused
 * socket. The road: original destination → self-test? → record → source → resolve → for each endpoint in turn: egress
 * policy → path → connect → relay → record closed. A refusal reaches the application as RST.
 */
export async function serveOutbound(context: FlowContext, source: HostedWorkload, socket: net.Socket): Promise<void> {
  socket.on('error', ignoreError);
  const captured = capturedDestination(socket);
  if (captured.kind === 'unreadable' || (captured.kind === 'redirected' && isSelfTest(captured.dialled))) {
    socket.destroy();
    return;
  }
  await runFlow(context, {
    direction: 'outbound',
    workload: source,
    reach: (connection) => reach({ context, source, socket, captured, connection }),
    refuse: () => socket.resetAndDestroy(),
  });
}

type Outbound = {
  readonly context: FlowContext;
  readonly source: HostedWorkload;
  readonly socket: net.Socket;
  readonly captured: Captured;
  readonly connection: TrackedConnection;
};

async function reach(outbound: Outbound): Promise<Reached> {
  const { context, source, socket, captured, connection } = outbound;
  const { state, settings } = context;
  const { dialled, client } = captured;
  const { record } = connection;
  record.requested = dialled;
  record.source = { address: client, workload: source.name, identity: null };
  record.destination = { address: dialled, workload: null, identity: null };

  if (captured.kind === 'direct') return refused({ reason: 'LOOP_DETECTED', detail: '' });
  if (context.descriptors.isTouchedBySocket(socket)) return refused({ reason: 'RESOURCE_FD', detail: 'accept' });
  const limit = context.connections.limitPassed(source);
  if (limit !== null) return refused({ reason: 'CONN_LIMIT', detail: limit });
  const entry = state.registry.workload(source.name);
  if (entry === undefined) {
    if (!state.registry.isFilled) return refused({ reason: 'NO_RULES_YET', detail: 'no registry yet' });
    return refused({ reason: 'SOURCE_UNKNOWN', detail: `${source.name} is not registered` });
  }
  record.source = { address: client, workload: source.name, identity: entry.identity };
  const notReady = state.notReadyReason(entry, context.clock.nowMs());
  if (notReady !== null) return refused(notReady);

  const destination = resolveDestination(state.registry, dialled);
  if (destination.kind === 'external') {
    record.service = context.nameExternal(dialled.ip, dialled.port);
    return settle(socket, await attempt(outbound, entry, null));
  }
  if (destination.service !== null) record.service = `${destination.service.namespace}/${destination.service.name}`;
  let failed: Attempt | null = null;
  for (const endpoint of context.balancer.order(destination, dialled.port).slice(0, 1 + settings.connectRetries)) {
    const tried = await attempt(outbound, entry, endpoint);
    if (tried.ok || !tried.isRetryable) return settle(socket, tried);
    failed = tried;
  }
  if (failed !== null) return settle(socket, failed);
  return refused({ reason: 'NO_ENDPOINT', detail: `${record.service} has none for port ${dialled.port}` });
}

type Attempt = OpenedPath | ConnectFailure;

/** One endpoint, or null for an address outside the mesh: may the source go there, and can it be reached? */
async function attempt(outbound: Outbound, entry: WorkloadEntry, endpoint: Endpoint | null): Promise<Attempt> {
  const { context, source, captured, connection } = outbound;
  const address = endpoint?.address ?? captured.dialled;
  const workload = endpoint === null ? null : workloadName(endpoint.workload);
  connection.record.destination = { address, workload, identity: null };
  if (endpoint?.workload.protocol === 'hbone' && isOwnPort(address.port)) {
    return { ok: false, reason: 'LOOP_DETECTED', detail: `port ${address.port}`, isRetryable: false };
  }
  const clientIp = captured.client.ip;
  const denied = connection.authorize(context.state, outboundFacts({ source: entry, clientIp, endpoint, address }));
  if (denied !== null) return { ok: false, ...denied, isRetryable: false };
  const opened = await openPath({ context, connection, source, entry, clientIp, endpoint, address });
  if (!opened.ok) return opened;
  connection.record.destination = { address, workload, identity: opened.provedIdentity };
  connection.record.connected(opened.path);
  return opened;
}

function settle(source: net.Socket, attempt: Attempt): Reached {
  if (attempt.ok) return { ok: true, source, destination: attempt.far };
  const { reason, detail, rule } = attempt;
  return refused(rule === undefined || rule === '' ? { reason, detail } : { reason, detail, rule });
}

function refused(ending: Ending): Reached {
  return { ok: false, ending };
}
