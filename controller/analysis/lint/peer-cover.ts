import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import { isAbout, peerFields } from '../../resources/match/peer-fields.js';

const fieldCovers = Object.values(peerFields).map(({ covers }) => covers);

/**
 * Whether `outer` certainly matches every party that `inner` matches, regardless of the workloads that exist now. Empty
 * lists match every party.
 */
export function coversPeers(outer: readonly PeerMatch[], inner: readonly PeerMatch[]): boolean {
  if (outer.length === 0) return true;
  if (inner.length === 0) return outer.some(isEverybody);
  return inner.every((candidate) => outer.some((match) => coversPeer(match, candidate)));
}

/** Whether the peers select by address only, so that the identity of a source does not matter. */
export function isByAddressOnly(peers: readonly PeerMatch[]): boolean {
  return !peers.some((peer) => isAbout(peer, 'workload', 'namespace', 'outsider'));
}

function isEverybody(match: PeerMatch): boolean {
  return !isAbout(match, 'workload', 'namespace', 'outsider', 'address');
}

function coversPeer(outer: PeerMatch, inner: PeerMatch): boolean {
  return fieldCovers.every((covers) => covers(outer, inner));
}
