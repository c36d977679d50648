import { refused, refusedByUs, type Refused } from '../connection/ending.js';
import { ConnectionCut } from '../connection/termination-signal.js';
import { ShadowFeed } from '../relay/shadow-feed.js';
import type { MissedTarget, PlannedTarget } from '../route/service-plans.js';
import { chooseAmong } from './choose-endpoints.js';
import { identify, type Arrival } from './identify.js';
import { runFlow, type Reached } from './run-flow.js';
import { limitOf, nearestFirst, tryEndpoint } from './try-endpoint.js';

const reason = 'MIRROR_GIVEN_UP';

/**
 * Begins a connection with a copy of what the client of `copied` sends, to where its route says, and returns what takes the
 * copy. It is a connection like any other, with the client's identity, rules and a record of its own, except that no
 * limit counts it and no endpoint is judged by it: whatever becomes of it, other connections go as without it.
 */
export function beginShadow(copied: Arrival, mirror: PlannedTarget | MissedTarget): ShadowFeed {
  const { context, workload, captured } = copied;
  const { traceId } = copied.connection.record;
  const feed = new ShadowFeed({ share: context.shadows.shareOf(workload.name) });
  // In a turn of its own: the bytes of the connection itself go first.
  setImmediate(
    () =>
      void runFlow(context, {
        direction: 'outbound',
        workload,
        mirrorOf: traceId,
        reach: (connection) =>
          reach({ context, connection, workload, captured, socket: null, peerIdentity: null }, mirror, feed),
        refuse: () => feed.refuse(),
      }),
  );
  return feed;
}

async function reach(
  arrival: Arrival,
  mirror: PlannedTarget | MissedTarget,
  feed: ShadowFeed,
): Promise<Reached | Refused> {
  const { context, connection } = arrival;
  const { record } = connection;
  const identified = identify(arrival);
  record.route = mirror.taken;
  if (!identified.ok) return identified;
  if (!mirror.ok) return refused('NO_ENDPOINT', mirror.detail);
  const none = feed.begin((detail) => connection.cut(new ConnectionCut({ reason, detail })));
  if (none !== null) return refusedByUs(reason, none);
  const unsteered = { route: null, faults: null, mirror: null };
  const asked = { client: identified.client.ip, atMost: 1, isCopy: true, ...unsteered };
  const chosen = chooseAmong({ context, target: mirror }, asked);
  if (!chosen.ok) return chosen;
  connection.limits = chosen.policy?.connections;
  for (const endpoint of nearestFirst(chosen)) {
    const unlimited = { ...chosen, limits: null };
    const opened = await tryEndpoint(arrival, identified, unlimited, endpoint, limitOf(context, chosen, null));
    if (!opened.ok) return opened;
    feed.opened(opened.far);
    return { ok: true, source: feed, destination: opened.far };
  }
  return refused('NO_ENDPOINT', `${chosen.of} has none for port ${chosen.port}`);
}
