import type { Endpoint } from '../../../shared/routing/destination.js';
import { workloadName } from '../../../shared/routing/names.js';
import { refused, type Refused } from '../connection/ending.js';
import { isOwnPort } from '../listen/captured-destination.js';
import type { ConnectionParty } from '../report/closed-connection.js';
import { Attempt, shortest, type AttemptLimit } from './attempt.js';
import type { Chosen } from './choose-endpoints.js';
import { outboundFacts } from './facts.js';
import type { FlowContext } from './flow-context.js';
import type { Arrival, Identified } from './identify.js';
import { openPath, type OpenedPath } from './open-path.js';

/** Those farther away are looked for only when those that are near could not be reached. */
export function* nearestFirst({ endpoints, further }: Chosen): Generator<Endpoint, void> {
  yield* endpoints;
  if (further !== null) yield* further();
}

/** How long documents let connecting to one endpoint take; null: the agent's settings alone count. */
export function limitOf(
  { settings }: FlowContext,
  { policy, route }: Chosen,
  untilMs: number | null,
): AttemptLimit | null {
  if (policy?.connections === undefined && route === null) return null;
  const limit = (afterMs: number | undefined, by: string): AttemptLimit | null =>
    afterMs === undefined ? null : { afterMs, by };
  const ofEach = shortest(
    limit(policy?.connections?.connectTimeoutMs, 'connectTimeout of its DestinationRule'),
    limit(route?.perTryTimeoutMs, 'perTryTimeout of its VirtualService'),
  );
  if (untilMs === null || route?.timeoutMs === undefined) return ofEach;
  const afterMs = Math.max(1, untilMs - performance.now());
  const ownMs = ofEach?.afterMs ?? (settings.connectTimeoutMs || Number.POSITIVE_INFINITY);
  const wholeMs = Math.min(route.timeoutMs, ownMs);
  return shortest(ofEach, { afterMs, by: 'timeout of its VirtualService', wholeMs });
}

/** authorized → connected, for one endpoint. */
export async function tryEndpoint(
  { context, connection, workload }: Arrival,
  { client, entry }: Identified,
  { limits }: Chosen,
  endpoint: Endpoint,
  limit: AttemptLimit | null,
): Promise<OpenedPath | Refused> {
  const { record } = connection;
  const { address, workload: destination } = endpoint;
  record.destination = partyAt(endpoint);
  if (destination?.protocol === 'hbone' && isOwnPort(address.port)) {
    return refused('LOOP_DETECTED', `port ${address.port}`);
  }
  const facts = outboundFacts({ source: entry, clientIp: client.ip, endpoint });
  const attempt = limit === null ? null : new Attempt(connection.signal, limit);
  const authorized = connection.authorize(context.state, address, facts, attempt?.signal);
  const limited = authorized.ok && limits !== null ? connection.countFor(context.rateLimiter, limits) : null;
  const admitted = limited ?? authorized;
  const reached = admitted.ok
    ? await openPath(admitted, { context, connection, source: workload, entry, client, endpoint })
    : admitted;
  const opened = attempt === null ? reached : attempt.end(reached, address);
  if (!opened.ok) return opened;
  record.destination = { ...partyAt(endpoint), identity: opened.provedIdentity };
  record.connected(opened.path, opened.from);
  return opened;
}

/** As far as it is known before it is reached. */
export function partyAt({ workload, address }: Endpoint): ConnectionParty {
  return { address, workload: workload === null ? null : workloadName(workload), identity: null };
}
