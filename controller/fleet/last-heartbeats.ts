import { setTimeout as delay } from 'node:timers/promises';
import type { AgentState } from './agent-registry.js';

/** They wait five seconds to be told, and then say that they stop. Less than a part of the controller may take to close. */
const defaults = { withinMs: 12_000, everyMs: 200 } as const;

/**
 * Resolves when no agent is left that may still be told something, or after some seconds. For a controller that is stopped
 * together with its agents: what it has to say to them, they must hear.
 */
export async function lastHeartbeats(o: {
  readonly states: () => readonly AgentState[];
  readonly withinMs?: number;
  readonly everyMs?: number;
}): Promise<void> {
  const { withinMs, everyMs } = { ...defaults, ...o };
  const isGone = (state: AgentState): boolean => ['stopped', 'stale', 'joined'].includes(state);
  for (let waitedMs = 0; waitedMs < withinMs && !o.states().every(isGone); waitedMs += everyMs) await delay(everyMs);
}
