import { mayOverlap } from '../../compile/check/group-overlap.js';
import type { PeerGroups } from '../../compile/segment-members.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import { isAbout, peerFields } from '../../resources/match/peer-fields.js';

const fieldCovers = Object.values(peerFields).map(({ covers }) => covers);

/**
 * Whether `outer` certainly matches every party that `inner` matches, regardless of the workloads that exist now. Without
 * a group, every party matches.
 */
export function coversPeers(outer: PeerGroups, inner: PeerGroups): boolean {
  if (outer.length === 0) return true;
  if (inner.length === 0) return outer.some((group) => group.some(isEverybody));
  return inner.every((group) => outer.includes(group) || coversGroup(outer, group));
}

/** By inner and outer group. Many rules refer to the same two segments. */
const known = new WeakMap<readonly PeerMatch[], WeakMap<readonly PeerMatch[], boolean>>();

function coversGroup(outer: PeerGroups, inner: readonly PeerMatch[]): boolean {
  const [only, ...others] = outer;
  const remembered = only === undefined || others.length > 0 ? undefined : known.get(inner)?.get(only);
  if (remembered !== undefined) return remembered;
  const isCovered = inner.every((candidate) => outer.some((group) => isCoveredBy(candidate, inner, group)));
  if (only === undefined || others.length > 0) return isCovered;
  const answers = known.get(inner) ?? new WeakMap<readonly PeerMatch[], boolean>();
  known.set(inner, answers.set(only, isCovered));
  return isCovered;
}

/** What covers a peer overlaps with it, too. */
function isCoveredBy(candidate: PeerMatch, of: readonly PeerMatch[], group: readonly PeerMatch[]): boolean {
  for (const match of mayOverlap(candidate, of, group)) if (coversPeer(match, candidate)) return true;
  return false;
}

/** Whether the peers select by address only, so that the identity of a source does not matter. */
export function isByAddressOnly(peers: PeerGroups): boolean {
  return !peers.some((group) => group.some((peer) => isAbout(peer, 'workload', 'namespace', 'outsider')));
}

function isEverybody(match: PeerMatch): boolean {
  return !isAbout(match, 'workload', 'namespace', 'outsider', 'address');
}

function coversPeer(outer: PeerMatch, inner: PeerMatch): boolean {
  return fieldCovers.every((covers) => covers(outer, inner));
}
