import type { AgentStatus } from './agent-registry.js';
import type { NodeName } from '../../shared/routing/names.js';

const rolloutStates = ['done', 'behind', 'pending', 'alarm', 'stale', 'joined'] as const;
/**
 * `done`: enforces the revision or a later one. `behind`: enforces an older one. `pending`: has no rules yet. `alarm`: rejected
 * the rules or a part of the registry, or holds later ones than this controller has made. `stale`, `joined`: sent no
 * heartbeat for too long, or ever; what it enforces is unknown.
 */
export type RolloutState = (typeof rolloutStates)[number];

export type RolloutAgent = {
  readonly node: NodeName;
  /** Null: none yet, or not reported. */
  readonly appliedRevision: number | null;
  readonly state: RolloutState;
  /** Why it does not enforce the revision; null when it does. */
  readonly problem: string | null;
};

export type Rollout = {
  readonly revision: number;
  /** The requested sequence of the inventory; null: none. */
  readonly sequence: number | null;
  /** Every worker of every agent enforces it. */
  readonly isComplete: boolean;
  /** The same for every agent that is not silent. */
  readonly isCompleteButSilent: boolean;
  readonly agents: readonly RolloutAgent[];
};

/** The target of a rollout; `sequence` null: only the rules. */
export type RolloutTarget = Pick<Rollout, 'revision' | 'sequence'>;

/**
 * Which agents enforce a revision and have the registry up to a sequence, according to their last heartbeats. An agent whose
 * version does not report the inventory is judged only by its rules.
 */
export function rolloutOf(target: RolloutTarget, agents: readonly AgentStatus[]): Rollout {
  const judged = agents.map((agent) => judge(target, agent));
  const isComplete = judged.every(({ state }) => state === 'done');
  const isCompleteButSilent = judged.every((agent) => agent.state === 'done' || isSilent(agent));
  return { ...target, isComplete, isCompleteButSilent, agents: judged };
}

/** Whether it is unknown what the agent enforces: it may be down, or cut off and enforcing old rules. */
export function isSilent({ state }: RolloutAgent): boolean {
  return state === 'stale' || state === 'joined';
}

function judge(
  { revision, sequence }: RolloutTarget,
  { node, heartbeat, state, lastSeenMs }: AgentStatus,
): RolloutAgent {
  const appliedRevision = heartbeat?.appliedRevision ?? null;
  const say = (rollout: RolloutState, problem: string | null): RolloutAgent => ({
    node,
    appliedRevision,
    state: rollout,
    problem,
  });
  if (state === 'joined') return say('joined', 'it has sent no heartbeat since it joined');
  if (state === 'stopped') return say('stale', 'it was stopped');
  if (state === 'stale') {
    const since = lastSeenMs === null ? '' : ` since ${new Date(lastSeenMs).toISOString()}`;
    return say('stale', `it has sent no heartbeat${since}`);
  }
  // Under an alarm its numbers are not those of this controller's revisions.
  if (state === 'ahead') return say('alarm', 'it holds a later revision or inventory than this controller has made');
  const alarm = heartbeat?.rulesAlarm ?? heartbeat?.registryAlarm;
  if (alarm !== undefined) return say('alarm', alarm);
  if (heartbeat !== null && appliedRevision !== null && appliedRevision >= revision && heartbeat.enforcedByAllWorkers) {
    const held = heartbeat.inventorySequence;
    if (sequence === null || held === undefined || (held !== null && held >= sequence)) return say('done', null);
    return say('behind', held === null ? 'it has no whole registry yet' : `its registry is that of inventory ${held}`);
  }
  if (appliedRevision === null) {
    const waitsFor = heartbeat?.pending.join(', ') ?? '';
    return say('pending', `it has no rules yet${waitsFor === '' ? '' : ` and is waiting for ${waitsFor}`}`);
  }
  if (appliedRevision >= revision) return say('behind', 'not all of its workers have switched to it yet');
  return say('behind', `it enforces revision ${appliedRevision}`);
}
