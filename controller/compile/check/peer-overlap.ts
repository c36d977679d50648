import type { Cidr } from '../../../shared/address.js';
import { matchFieldNames } from '../../../shared/policy/match-fields.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import { peerFields } from '../../resources/match/peer-fields.js';

/** Addresses first: they are the cheapest to compare, and rules by network are compared in the millions. */
const overlaps = matchFieldNames.map((field) => peerFields[field].overlap).reverse();

/**
 * Whether some party can match both, regardless of the workloads that exist now, since labels and addresses change
 * without a new revision. Returns such a party in words, or undefined when the two exclude each other. `named`: addresses
 * that ServiceEntries name.
 */
export function overlapOfPeers(a: PeerMatch, b: PeerMatch, named: readonly Cidr[] = []): string | undefined {
  const parts: string[] = [];
  for (const overlap of overlaps) {
    const part = overlap(a, b, named);
    if (part === null) return undefined;
    if (part !== undefined) parts.push(part);
  }
  return parts.length === 0 ? 'anybody' : parts.reverse().join(' ');
}
