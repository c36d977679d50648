import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import { isAbout, peerFields } from '../../resources/match/peer-fields.js';

const fieldCovers = Object.values(peerFields).map(({ covers }) => covers);

/** Whether everybody in `inner` is certainly in `outer` too, whatever workloads there are. Empty lists are everybody. */
export function coversPeers(outer: readonly PeerMatch[], inner: readonly PeerMatch[]): boolean {
  if (outer.length === 0) return true;
  if (inner.length === 0) return outer.some(isEverybody);
  return inner.every((candidate) => outer.some((match) => coversPeer(match, candidate)));
}

/** Whether the peers go by nothing but addresses, so that it does not matter what a source proves. */
export function isByAddressOnly(peers: readonly PeerMatch[]): boolean {
  return !peers.some((peer) => isAbout(peer, 'workload', 'namespace', 'outsider'));
}

function isEverybody(match: PeerMatch): boolean {
  return !isAbout(match, 'workload', 'namespace', 'outsider', 'address');
}

function coversPeer(outer: PeerMatch, inner: PeerMatch): boolean {
  return fieldCovers.every((covers) => covers(outer, inner));
}
