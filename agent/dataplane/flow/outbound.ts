import { isSelfTest } from '../../self-test-target.js';
import type { HealthUse } from '../balance/health-use.js';
import { refused, type Refused } from '../connection/ending.js';
import type { CapturedDestination } from '../listen/captured-destination.js';
import type { HostedWorkload } from '../listen/hosted-workload.js';
import type { DrawnFaults } from '../../../shared/routing/faults.js';
import type { Endpoint } from '../../../shared/routing/destination.js';
import { serviceAccountName, workloadName } from '../../../shared/routing/names.js';
import { allEjected, chooseEndpoints, type Chosen } from './choose-endpoints.js';
import { outboundFacts } from './facts.js';
import type { FlowContext } from './flow-context.js';
import { identify, type Arrival, type Identified, type SocketArrival } from './identify.js';
import { injectFaults } from './inject-faults.js';
import type { ApplicationSocket } from '../relay/application-socket.js';
import type { OpenedPath } from './open-path.js';
import { refuseClient } from './refuse-client.js';
import { runFlow, type Reached } from './run-flow.js';
import { beginShadow } from './shadow.js';
import { limitOf, nearestFirst, partyAt, tryEndpoint } from './try-endpoint.js';

/**
 * A connection that an application of this node opens, accepted on port 15001 of its namespace. Takes over the
 * socket; a refusal reaches the application as RST. A self-test of capture ends here, without a record.
 */
export async function serveOutbound(
  context: FlowContext,
  workload: HostedWorkload,
  socket: ApplicationSocket,
  captured: CapturedDestination,
): Promise<void> {
  if (captured.dialled !== null && isSelfTest(captured.dialled)) {
    socket.close();
    return;
  }
  await runFlow(context, {
    direction: 'outbound',
    workload,
    reach: (connection) => reach({ context, connection, workload, captured, socket, peerIdentity: null }),
    refuse: (ending) => refuseClient(context, { socket, workload, captured, direction: 'outbound' }, ending),
  });
}

async function reach(arrival: SocketArrival): Promise<Reached | Refused> {
  const connected = await connectFarSide(arrival);
  return connected.ok ? { ok: true, source: arrival.socket, destination: connected.far } : connected;
}

/** captured → identified → routed → for each endpoint: authorized → connected. The far side belongs to the caller. */
export async function connectFarSide(arrival: Arrival): Promise<OpenedPath | Refused> {
  const identified = identify(arrival);
  if (!identified.ok) return identified;
  const found = chooseEndpoints(arrival, identified);
  if (!found.ok) return found;
  const { policy, counted, faults, mirror } = found;
  const { connection, context } = arrival;
  const limits = policy?.connections;
  if (limits !== undefined && counted !== null) {
    const place = context.destinations.enter(counted, limits, serviceAccountName(identified.entry));
    if (typeof place === 'string') return refused('CIRCUIT_OPEN', place);
    connection.take(place);
    connection.limits = limits;
  }
  const budget =
    policy?.retries === undefined || counted === null ? null : { key: counted.key, policy: policy.retries };
  if (budget !== null) context.retryBudget.connects(budget.key);
  const untilMs = found.route?.timeoutMs === undefined ? null : performance.now() + found.route.timeoutMs;
  const chosen = faults === null ? found : await afterFaults(arrival, identified, { found, faults, untilMs });
  if (!chosen.ok) return chosen;
  let failed: Refused | null = null;
  let isEjected = false;
  for (const chosenEndpoint of nearestFirst(chosen)) {
    // A try, or a delay on purpose, may have taken seconds.
    const isFresh: boolean = failed === null && faults === null;
    const endpoint: Endpoint | null = isFresh ? chosenEndpoint : presentOf(context, chosenEndpoint);
    if (endpoint === null) continue;
    const health = watched(arrival, chosen, endpoint);
    if (health === 'ejected') {
      isEjected = true;
      continue;
    }
    if (failed !== null && isOver(untilMs)) {
      health?.end('unknown', failed.reason);
      return failed;
    }
    const retry = failed === null || budget === null ? null : context.retryBudget.retry(budget.key, budget.policy);
    if (failed !== null && budget !== null && retry === null) {
      health?.end('unknown', failed.reason);
      return { ...failed, detail: `${failed.detail}; not tried again: retryBudget` };
    }
    connection.goTo(context.balancer.begin(endpoint, chosen), health);
    const connected = await tryEndpoint(
      arrival,
      identified,
      chosen,
      endpoint,
      limitOf(context, chosen, untilMs),
    ).finally(() => retry?.end());
    if (connected.ok) {
      connection.reached();
      if (mirror !== null) connection.beginShadow = () => beginShadow(arrival, mirror);
    }
    if (connected.ok || !connected.isRetryable) return connected;
    connection.leaveEndpoint(connected);
    failed = connected;
  }
  if (failed === null && isEjected)
    return refused('CIRCUIT_OPEN', allEjected(chosen.health?.among.length ?? 0, chosen.of));
  return failed ?? refused('NO_ENDPOINT', `${chosen.of} has none for port ${chosen.port}`);
}

/**
 * What a VirtualService has done to it on purpose, once the rules allow it to the first endpoint: what they refuse is refused as
 * without it. Where all endpoints that were chosen have left meanwhile, others are chosen.
 */
async function afterFaults(
  arrival: Arrival,
  identified: Identified,
  asked: { readonly found: Chosen; readonly faults: DrawnFaults; readonly untilMs: number | null },
): Promise<Chosen | Refused> {
  const { context, connection } = arrival;
  const { found, faults, untilMs } = asked;
  const [first] = found.endpoints;
  if (first === undefined) return found;
  const facts = outboundFacts({ source: identified.entry, clientIp: identified.client.ip, endpoint: first });
  connection.record.destination = partyAt(first);
  if (!connection.authorize(context.state, first.address, facts).ok) return found;
  const refusal = await injectFaults(connection, faults, untilMs);
  if (refusal !== null) return refusal;
  const isLeft = found.endpoints.some((endpoint) => presentOf(context, endpoint) !== null);
  return isLeft ? found : chooseEndpoints(arrival, identified);
}

/** The endpoint as the registry has it now; null: its workload has left, and another may have its address. */
function presentOf({ state }: FlowContext, endpoint: Endpoint): Endpoint | null {
  const { workload, address } = endpoint;
  const present = state.registry.workloadAt(address.ip) ?? null;
  if (present === workload) return endpoint;
  if (workload !== null && (present === null || workloadName(present) !== workloadName(workload))) return null;
  return { workload: present, address };
}

/**
 * The least time, in milliseconds, for which another endpoint is tried. A timer may end up to two milliseconds early, and the
 * endpoint that was tried for what is left then would be blamed for the one before it.
 */
const leastTryMs = 5;

/** `untilMs`: of `performance.now()`; null: there is no limit. */
function isOver(untilMs: number | null): boolean {
  return untilMs !== null && performance.now() + leastTryMs >= untilMs;
}

/** The place of the connection at an endpoint that may be ejected; null where none may. */
function watched(
  { context, connection }: Arrival,
  { health }: Chosen,
  endpoint: Endpoint,
): HealthUse | 'ejected' | null {
  if (health === null) return null;
  const { record } = connection;
  const hasAnswered = (): boolean => record.firstByteAtMs !== null;
  const { counted, policy, among, isPanic } = health;
  return context.health.begin(counted, endpoint, { policy, among, isPanic, hasAnswered }) ?? 'ejected';
}
