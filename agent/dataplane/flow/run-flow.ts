import { ConnectionRecord, type Ending } from '../connection/connection-record.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import { relay, type RelayPeer, type RelayOutcome } from '../relay/relay.js';
import type { FlowContext } from './flow-context.js';
import { explainReset } from './reset-in-doubt.js';
import { TrackedConnection } from './tracked-connection.js';

/** Both sides are connected, or why they are not. */
export type Reached =
  | { readonly ok: true; readonly source: RelayPeer; readonly destination: RelayPeer }
  | { readonly ok: false; readonly ending: Ending };

export type Flow = {
  readonly direction: 'outbound' | 'inbound';
  /** The workload of this node whose listener took the connection. */
  readonly workload: HostedWorkload;
  /** From the other agent, so that both records share it. */
  readonly traceId?: string | undefined;
  /** All steps from accept to the connected far side. */
  readonly reach: (connection: TrackedConnection) => Promise<Reached>;
  /** Tells the side that is waiting. Called at most once, and never after both sides were connected. */
  readonly refuse: (ending: Ending) => void;
};

/**
 * The life of one connection: a record is opened, the far side is reached or refused, bytes are relayed, the record is
 * closed. The one place that closes a record, so it happens exactly once whatever a step returns or throws. Resolves when
 * the connection was refused, or its bytes have begun to move.
 */
export async function runFlow(context: FlowContext, flow: Flow): Promise<void> {
  const record = new ConnectionRecord({ direction: flow.direction, traceId: flow.traceId });
  const connection = new TrackedConnection({ record, workload: flow.workload, clock: context.clock });
  context.connections.add(connection);
  const reached = await reachSafely(flow, connection);
  if (!reached.ok) {
    refuseSafely(flow, reached.ending);
    close(context, connection, reached.ending);
    return;
  }
  // Not awaited: a connection may be idle for days, and a function that waits keeps everything that led to it.
  carry(context, connection, reached);
}

function close(context: FlowContext, connection: TrackedConnection, ending: Ending): void {
  context.connections.remove(connection);
  context.reporter.closed(connection.record, ending);
}

async function reachSafely(flow: Flow, connection: TrackedConnection): Promise<Reached> {
  try {
    return await flow.reach(connection);
  } catch (error) {
    // A defect of the agent: it must show on the connection that it hit, and must not cost the others.
    const detail = `internal error: ${error instanceof Error ? error.stack : String(error)}`;
    return { ok: false, ending: { reason: 'PROTOCOL_ERROR', detail } };
  }
}

/** The record is worth more than the answer: a side that cannot be told any more is none of ours to fail on. */
function refuseSafely(flow: Flow, ending: Ending): void {
  try {
    flow.refuse(ending);
  } catch {
    return;
  }
}

function carry(
  context: FlowContext,
  connection: TrackedConnection,
  { source, destination }: { readonly source: RelayPeer; readonly destination: RelayPeer },
): void {
  const { settings } = context;
  const options = {
    source,
    destination,
    counters: connection.record,
    halfCloseTimeoutMs: settings.halfCloseTimeoutMs,
    idleTimeoutMs: settings.idleTimeoutMs,
    maxDurationMs: settings.maxConnectionDurationMs,
    signal: connection.signal,
    workloads: connection.workloads,
    backpressure: context.backpressure,
  };
  relay(options, (outcome) => void settle(context, connection, outcome));
}

async function settle(
  context: FlowContext,
  connection: TrackedConnection,
  { reason, detail, rule }: RelayOutcome,
): Promise<void> {
  const ending = rule === '' ? { reason, detail } : { reason, detail, rule };
  close(context, connection, await explainReset(context.connections, connection, ending));
}
