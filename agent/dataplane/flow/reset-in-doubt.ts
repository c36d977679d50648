import type { Reason } from '../../../shared/reasons.js';
import type { Ending } from '../connection/connection-record.js';
import { cutWithin } from '../connection/cut-within.js';
import type { LiveConnections } from './live-connections.js';
import type { TrackedConnection } from './tracked-connection.js';

/** How far the other agent may be ahead in learning a change: some deliveries of NATS. */
const doubtMs = 1000;

const cutReasons: ReadonlySet<Reason> = new Set(['POLICY_TERMINATED', 'CERT_REVOKED']);

/**
 * A change of rules or registry reaches the two agents of a connection at slightly different times. The first one cuts
 * it, and what the second one sees is a reset out of the tunnel, as if the application had sent it. So the record of
 * such a connection waits a moment: when this agent learns within it of the change that forbids the connection, the
 * record says so, with the rule, like the one at the other end. Bytes, duration and the limit of connections do not
 * wait: for them it ended at the reset.
 */
export async function explainReset(
  connections: LiveConnections,
  connection: TrackedConnection,
  ending: Ending,
): Promise<Ending> {
  const { record, signal } = connection;
  const fromTunnel: Reason = record.direction === 'outbound' ? 'PEER_RESET' : 'CLIENT_RESET';
  if (record.path !== 'hbone' || ending.reason !== fromTunnel) return ending;
  record.ended();
  connections.release(connection);
  await cutWithin(signal, doubtMs);
  if (signal.cut === null) return ending;
  const { reason, rule, message } = signal.cut;
  if (!cutReasons.has(reason)) return ending;
  const detail = message === '' ? 'cut by the other agent' : `${message}, cut by the other agent`;
  // A cut that no rule made leaves the rule that let the connection in, as at the other end.
  return rule === '' ? { reason, detail } : { reason, rule, detail };
}
