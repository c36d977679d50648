import { ConnectionCut } from '../connection/termination-signal.js';
import type { DrainedConnections } from '../messages.js';
import { dumpOf } from './connection-dump.js';
import type { LiveConnections } from './live-connections.js';
import type { TrackedConnection } from './tracked-connection.js';

/** Connections that were cut and are named in the log; the access log has all of them, with the reason DRAIN. */
const mostNamed = 20;

/**
 * Lets the open connections end by themselves for `graceMs`, cuts the rest with the reason DRAIN, and gives up those that
 * are still open `cutMs` later: `giveUp` closes their records. Returns what it cut and what it gave up.
 */
export async function drainConnections(init: {
  readonly connections: LiveConnections;
  readonly graceMs: number;
  readonly cutMs: number;
  readonly giveUp: (connection: TrackedConnection) => void;
}): Promise<DrainedConnections> {
  const { connections, graceMs, cutMs, giveUp } = init;
  await connections.whenEmpty(graceMs);
  // Those without a workload have ended, and only their records are open, or have found none yet.
  const left = [...connections].filter(({ workloads }) => workloads.length > 0);
  const named = left.slice(0, mostNamed).map(dumpOf);
  connections.cutAll(new ConnectionCut({ reason: 'DRAIN', detail: 'the agent shuts down' }));
  await connections.whenEmpty(cutMs);
  const stuck = [...connections];
  for (const connection of stuck) giveUp(connection);
  return { cut: left.length, givenUp: stuck.length, named };
}
