import { pinsOf } from '../../resources/match/peer-fields.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';

/** The namespaces that a party must be in to match one of the peers; null: any namespace, or none. */
export function peerNamespaces(peers: Iterable<PeerMatch>): ReadonlySet<string> | null {
  const namespaces = new Set<string>();
  let isEverybody = true;
  for (const match of peers) {
    isEverybody = false;
    const [pinned] = pinsOf(match);
    if (pinned === undefined) return null;
    for (const namespace of pinned) namespaces.add(namespace);
  }
  return isEverybody ? null : namespaces;
}
