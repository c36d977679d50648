import type { AgentStatus } from './agent-registry.js';
import type { NodeName } from '../../shared/routing/names.js';

export const rolloutStates = ['done', 'behind', 'pending', 'alarm', 'stale', 'joined'] as const;
/**
 * `done`: enforces the revision, or a later one. `behind`: has an older one yet. `pending`: has no rules yet. `alarm`:
 * refused the rules that it was given. `stale`, `joined`: not heard of, for too long or ever; what it enforces is unknown.
 */
export type RolloutState = (typeof rolloutStates)[number];

export type RolloutAgent = {
  readonly node: NodeName;
  /** Null: none yet, or never said. */
  readonly appliedRevision: number | null;
  readonly state: RolloutState;
  /** Why it does not enforce the revision, in a sentence; null when it does. */
  readonly problem: string | null;
};

export type Rollout = {
  readonly revision: number;
  /** The sequence of the inventory that was asked for too; null: none was. */
  readonly sequence: number | null;
  /** Every agent enforces it in all its workers. */
  readonly isComplete: boolean;
  /** Every agent that can be heard does. */
  readonly isCompleteButSilent: boolean;
  readonly agents: readonly RolloutAgent[];
};

/** What a rollout is of; `sequence` null: of the rules alone. */
export type RolloutTarget = Pick<Rollout, 'revision' | 'sequence'>;

/**
 * Who enforces a revision, and has what was registered up to a sequence, by what the agents' last heartbeats say. An agent
 * of a version that does not say what it has of the inventory is judged by its rules.
 */
export function rolloutOf(target: RolloutTarget, agents: readonly AgentStatus[]): Rollout {
  const judged = agents.map((agent) => judge(target, agent));
  const isComplete = judged.every(({ state }) => state === 'done');
  const isCompleteButSilent = judged.every((agent) => agent.state === 'done' || isSilent(agent));
  return { ...target, isComplete, isCompleteButSilent, agents: judged };
}

/** What it enforces is unknown: it may be down, or cut off and enforcing old rules. */
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
  if (state === 'joined') return say('joined', 'it joined and was not heard of since');
  if (state === 'stale') {
    const since = lastSeenMs === null ? '' : ` since ${new Date(lastSeenMs).toISOString()}`;
    return say('stale', `it was not heard of${since}`);
  }
  if (heartbeat !== null && appliedRevision !== null && appliedRevision >= revision && heartbeat.enforcedByAllWorkers) {
    const held = heartbeat.inventorySequence;
    if (sequence === null || held === undefined || (held !== null && held >= sequence)) return say('done', null);
    return say('behind', held === null ? 'it has no whole registry yet' : `its registry is that of inventory ${held}`);
  }
  if (heartbeat?.rulesAlarm !== undefined) return say('alarm', heartbeat.rulesAlarm);
  if (appliedRevision === null) {
    const waitsFor = heartbeat?.pending.join(', ') ?? '';
    return say('pending', `it has no rules yet${waitsFor === '' ? '' : ` and waits for ${waitsFor}`}`);
  }
  if (appliedRevision >= revision) return say('behind', 'not all of its workers have switched yet');
  return say('behind', `it enforces revision ${appliedRevision}`);
}
