import type { Reason } from '../../../shared/reasons.js';
import type { Verdict } from './health-use.js';

/** What can say of an endpoint that it cannot be reached, and not of the client, of a rule or of this agent. */
const failures: ReadonlySet<Reason> = new Set<Reason>([
  'CONNECT_REFUSED',
  'CONNECT_TIMEOUT',
  'HOST_UNREACHABLE',
  'TLS_HANDSHAKE',
  'NOT_MESHED_PEER',
  'PEER_RESET',
]);

/** What a connection says of its endpoint: one that it reset before its first byte has failed, as one that it refused. */
export function verdictOf(
  { reason, isOwn }: { readonly reason: Reason; readonly isOwn?: boolean },
  { hasAnswered }: { readonly hasAnswered: boolean },
): Verdict {
  if (hasAnswered || reason === 'OK') return 'worked';
  return isOwn !== true && failures.has(reason) ? 'failed' : 'unknown';
}
