import type { PartyFacts } from '../connection-facts.js';
import { fieldsOf, useField, type Condition } from '../match-fields.js';
import type { PeerMatch } from '../snapshot.js';

/** A {@link PeerMatch} prepared for evaluation: one condition for each field that is set. */
export type PreparedPeer = { readonly match: PeerMatch; readonly conditions: readonly Condition[] };

/** Throws CulvertError `SNAPSHOT_INVALID` for a CIDR that cannot be read, and for an unknown field ({@link fieldsOf}). */
export function preparePeer(match: PeerMatch): PreparedPeer {
  const conditions: Condition[] = [];
  for (const field of fieldsOf(match)) {
    const condition = useField(field, match, (row, value) => row.prepare?.(value));
    if (condition !== undefined) conditions.push(condition);
  }
  return { match, conditions };
}

/** Without any peer it matches none. */
export function matchesAnyPeer(peers: readonly PreparedPeer[], facts: PartyFacts): boolean {
  for (const peer of peers) if (matchesPeer(peer, facts)) return true;
  return false;
}

/** All conditions must hold. */
export function matchesPeer({ conditions }: PreparedPeer, facts: PartyFacts): boolean {
  for (const holds of conditions) if (!holds(facts)) return false;
  return true;
}
