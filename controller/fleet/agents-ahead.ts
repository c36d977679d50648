import type { Heartbeat } from '../../shared/wire/requests.js';
import type { NodeName } from '../../shared/routing/names.js';
import type { ResourceStore } from '../store/resource-store.js';

/** The newest revision of the rules and sequence of the inventory. */
export type MeshPosition = { readonly revision: number; readonly sequence: number };

export function positionOf({ release, inventory }: Pick<ResourceStore, 'release' | 'inventory'>): MeshPosition {
  return { revision: release.state.revision, sequence: inventory.sequence };
}

/** What an agent said that it holds. */
export type AgentPosition = MeshPosition & { readonly node: NodeName };

/**
 * The largest step of each number in one advance. A compromised agent may claim any number; the mesh must not get near the
 * last one that can be counted to (2^53). No controller was ever further behind: this is thirty changes a second for a year.
 */
export const maxAdvance = 1_000_000_000;

/** An agent may hold a root of the registry, not yet complete, that is newer than what it reports. */
const sequenceMargin = 1000;

type HeardAgent = { readonly node: NodeName; readonly heartbeat: Heartbeat | null };

export type ProposedAdvance = MeshPosition & {
  /** The agents that hold more than this controller has. */
  readonly ahead: readonly AgentPosition[];
  /** Those that claim more than {@link maxAdvance} above it. They count for nothing. */
  readonly unbelievable: readonly AgentPosition[];
};

/**
 * Whether an agent holds rules or a registry that this controller has not made. Then its state is older than the mesh: a backup
 * was restored. The agent refuses everything below what it holds, so that nothing old can be replayed to it.
 */
export function isAhead(heartbeat: Heartbeat, newest: MeshPosition): boolean {
  const { revision, sequence } = heldBy(heartbeat);
  return revision > newest.revision || sequence > newest.sequence;
}

/** Numbers above those of every agent that ever reported, silent ones too. */
export function proposedAdvance(newest: MeshPosition, agents: readonly HeardAgent[]): ProposedAdvance {
  const all = agents.flatMap(({ node, heartbeat }) =>
    heartbeat !== null && isAhead(heartbeat, newest) ? [{ node, ...heldBy(heartbeat) }] : [],
  );
  const isBelievable = ({ revision, sequence }: MeshPosition): boolean =>
    Math.max(revision - newest.revision, sequence - newest.sequence) + sequenceMargin <= maxAdvance;
  const ahead = all.filter(isBelievable);
  const highest = (read: (position: MeshPosition) => number): number => Math.max(read(newest), ...ahead.map(read));
  return {
    revision: highest(({ revision }) => revision) + 1,
    sequence: highest(({ sequence }) => sequence) + sequenceMargin,
    ahead,
    unbelievable: all.filter((position) => !isBelievable(position)),
  };
}

function heldBy({ appliedRevision, registrySequence, inventorySequence }: Heartbeat): MeshPosition {
  return { revision: appliedRevision ?? 0, sequence: Math.max(registrySequence ?? 0, inventorySequence ?? 0) };
}
