import { ConnectionRecord } from '../connection/connection-record.js';
import { refused, type Ending, type Refused } from '../connection/ending.js';
import { connectFailure } from '../connection/failure-reasons.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { CapturePortName } from '../../ports.js';
import { BackpressureTracker } from '../relay/backpressure-tracker.js';
import { relay, type RelayOptions, type RelayOutcome } from '../relay/relay.js';
import { shadowBounds } from '../relay/shadow-feed.js';
import { explainLostEntry } from './captured-connection.js';
import type { FlowContext } from './flow-context.js';
import { explainKeepalive } from './keepalive-sides.js';
import { explainReset } from './reset-in-doubt.js';
import { TrackedConnection } from './tracked-connection.js';
import type { WorkloadName } from '../../../shared/routing/names.js';

/** Both sides are connected. */
export type Reached = { readonly ok: true } & Pick<RelayOptions, 'source' | 'destination'>;

export type Flow = {
  readonly direction: 'outbound' | 'inbound';
  /** The workload of this node whose listener took the connection; null: a step finds it, and has the connection join it. */
  readonly workload: HostedWorkload | null;
  /** From the other agent, so that both records share it. */
  readonly traceId?: string | undefined;
  /** The trace id of the connection of which it carries a copy; absent: of none. */
  readonly mirrorOf?: string;
  /** All steps from captured to connected. */
  readonly reach: (connection: TrackedConnection) => Promise<Reached | Refused>;
  /** Answers the client. Called at most once, and never after both sides are connected. */
  readonly refuse: (ending: Ending) => void;
};

/**
 * The life of one connection: opens the record, runs the steps, relays bytes or refuses, and closes the record. Resolves
 * when the connection is refused, or its bytes begin to move.
 */
export async function runFlow(context: FlowContext, flow: Flow): Promise<void> {
  const record = new ConnectionRecord({ direction: flow.direction, traceId: flow.traceId, mirrorOf: flow.mirrorOf });
  const connection = new TrackedConnection({
    record,
    workload: flow.workload,
    clock: context.clock,
    inGrace: context.connections.inGrace,
  });
  context.connections.add(connection);
  const reached = await reachSafely(flow, connection);
  if (!reached.ok) {
    refuseSafely(flow, reached);
    close(context, connection, reached);
    return;
  }
  // Not awaited: a connection may be idle for days, and a suspended function keeps everything in its scope.
  carry(context, connection, reached);
}

/** A connection that cannot become a flow: there is no socket to serve it with, or no workload that it belongs to. */
export function recordRefusal(
  context: FlowContext,
  refusal: Pick<Ending, 'reason' | 'detail'> & {
    readonly direction: Flow['direction'];
    readonly workload: WorkloadName;
  },
): void {
  const { direction, workload, reason, detail } = refusal;
  const record = new ConnectionRecord({ direction });
  record[direction === 'outbound' ? 'source' : 'destination'] = { address: null, workload, identity: null };
  closeRecord(context, record, refused(reason, detail));
}

/**
 * The kernel accepted a connection and the agent cannot take it, for example for `EMFILE`: it waits, with those that come, for
 * which this is the only record; or it has been closed.
 */
export function recordAcceptFailure(
  context: FlowContext,
  { name }: Pick<HostedWorkload, 'name'>,
  port: CapturePortName,
  error: Error,
): void {
  const { reason, detail } = connectFailure(error, `accepting on the ${port} port of ${name}`);
  recordRefusal(context, { direction: port === 'outbound' ? 'outbound' : 'inbound', workload: name, reason, detail });
}

/** A drain is over and the connection did not end when it was cut: its record is closed all the same. */
export function giveUpConnection(context: FlowContext, connection: TrackedConnection): void {
  close(context, connection, refused('DRAIN', 'still open when it was cut: a defect of the agent'));
}

function close(context: FlowContext, connection: TrackedConnection, ending: Ending): void {
  connection.judge(ending);
  // Given up before.
  if (!context.connections.remove(connection)) return;
  closeRecord(context, connection.record, ending);
}

/** The one place that closes a record. */
function closeRecord(context: FlowContext, record: ConnectionRecord, ending: Ending): void {
  context.reporter.closed(record, ending);
}

async function reachSafely(flow: Flow, connection: TrackedConnection): Promise<Reached | Refused> {
  try {
    return await flow.reach(connection);
  } catch (error) {
    // A defect of the agent: its connection's record shows it, and other connections continue.
    return refused('PROTOCOL_ERROR', `internal error: ${error instanceof Error ? error.stack : String(error)}`);
  }
}

/** The record must be closed even when the client can no longer be answered. */
function refuseSafely(flow: Flow, ending: Ending): void {
  try {
    flow.refuse(ending);
  } catch {
    return;
  }
}

function carry(context: FlowContext, connection: TrackedConnection, reached: Reached): void {
  const { settings } = context;
  const { limits } = connection;
  const { source, destination } = reached;
  connection.ends = reached;
  const init = {
    source,
    destination,
    counters: connection.record,
    halfCloseTimeoutMs: settings.halfCloseTimeoutMs,
    idleTimeoutMs: limits?.idleTimeoutMs ?? settings.idleTimeoutMs,
    maxDurationMs: limits?.maxDurationMs ?? settings.maxConnectionDurationMs,
    signal: connection.signal,
    workloads: connection.workloads,
    // What waits for a shadow is bounded by the pool of shadows, and takes nothing of what others may have.
    backpressure: connection.record.mirrorOf === null ? context.backpressure : new BackpressureTracker(),
    throttles: connection.throttles,
    bounds: connection.record.mirrorOf === null ? undefined : shadowBounds,
    shadow: connection.beginShadow?.() ?? null,
  };
  connection.beginShadow = null;
  relay(init, (outcome) => void settle(context, connection, outcome));
}

async function settle(context: FlowContext, connection: TrackedConnection, outcome: RelayOutcome): Promise<void> {
  const known = explainLostEntry(connection, outcome) ?? explainKeepalive(connection, outcome);
  close(context, connection, known ?? (await explainReset(context.connections, connection, outcome)));
}
