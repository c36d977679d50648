import type { Reason } from '../../../shared/reasons.js';
import type { Ending } from '../connection/ending.js';
import { cutWithin } from '../connection/termination-signal.js';
import type { RelayOutcome } from '../relay/relay.js';
import type { LiveConnections } from './live-connections.js';
import type { TrackedConnection } from './tracked-connection.js';

/** How much earlier the other agent may receive a change: the time of a few NATS deliveries. */
const doubtMs = 1000;

const cutReasons: ReadonlySet<Reason> = new Set(['POLICY_TERMINATED', 'CERT_REVOKED']);

/**
 * A change of rules or registry reaches the two agents of a connection at slightly different times. The first agent cuts
 * the connection; the second sees a reset from the tunnel, as if the application had sent it. So the record of such a
 * connection waits a moment. If this agent then receives the change that forbids the connection, the record says so, with
 * the rule, like the record at the other end. Bytes, duration and limits do not wait: they end at the reset.
 */
export async function explainReset(
  connections: LiveConnections,
  connection: TrackedConnection,
  ending: RelayOutcome,
): Promise<Ending> {
  const { record, signal } = connection;
  const tunnelSide = record.direction === 'outbound' ? 'destination' : 'source';
  if (record.path !== 'hbone' || ending.broken?.side !== tunnelSide) return ending;
  record.ended();
  connections.release(connection);
  await cutWithin(signal, doubtMs);
  if (signal.cut === null) return ending;
  const { reason, rule, detail } = signal.cut;
  if (!cutReasons.has(reason)) return ending;
  return { reason, rule, detail: detail === '' ? 'cut by the other agent' : `${detail}, cut by the other agent` };
}
