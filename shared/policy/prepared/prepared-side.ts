import type { PartyFacts } from '../connection-facts.js';
import { matchesAnyPeer, type PreparedPeer } from './prepared-peer.js';
import type { PreparedSegment } from './prepared-segment.js';

/** One side of a rule. The peers and the members of all segments are alternatives; without any it is every party. */
export type PreparedSide = {
  readonly peers: readonly PreparedPeer[];
  readonly segments: readonly PreparedSegment[];
};

export function isEverybody({ peers, segments }: PreparedSide): boolean {
  return peers.length === 0 && segments.length === 0;
}

export function matchesSide(side: PreparedSide, facts: PartyFacts): boolean {
  if (isEverybody(side) || matchesAnyPeer(side.peers, facts)) return true;
  for (const segment of side.segments) if (segment.has(facts)) return true;
  return false;
}
