import { cidrContains, parseCidr, type Cidr } from '../address.js';
import type { PeerMatch } from '../policy/snapshot.js';

/** Whether everybody in `inner` is certainly in `outer` too, whatever workloads there are. Empty lists are everybody. */
export function coversPeers(outer: readonly PeerMatch[], inner: readonly PeerMatch[]): boolean {
  if (outer.length === 0) return true;
  if (inner.length === 0) return outer.some(isEverybody);
  return inner.every((candidate) => outer.some((match) => coversPeer(match, candidate)));
}

/** Whether the peers go by nothing but addresses, so that it does not matter what a source proves. */
export function isByAddressOnly(peers: readonly PeerMatch[]): boolean {
  return peers.every((peer) => identityFields.every((field) => peer[field] === undefined));
}

const identityFields = [
  'namespaces',
  'namespaceLabels',
  'labels',
  'serviceAccounts',
  'workloads',
  'nodes',
  'unauthenticated',
  'external',
] as const;

function isEverybody(match: PeerMatch): boolean {
  return isByAddressOnly([match]) && match.cidrs === undefined && match.exceptCidrs === undefined;
}

function coversPeer(outer: PeerMatch, inner: PeerMatch): boolean {
  return (
    coversNamespaces(outer.namespaces, inner) &&
    coversNames(outer.serviceAccounts, inner.serviceAccounts) &&
    coversNames(outer.workloads, inner.workloads) &&
    coversNames(outer.nodes, inner.nodes) &&
    coversLabels(outer.labels, inner.labels) &&
    coversLabels(outer.namespaceLabels, inner.namespaceLabels) &&
    (outer.external === undefined || inner.external === true) &&
    (outer.unauthenticated === undefined || inner.unauthenticated === true) &&
    coversAddresses(outer, inner)
  );
}

function coversNames(outer: readonly string[] | undefined, inner: readonly string[] | undefined): boolean {
  return outer === undefined || (inner !== undefined && inner.every((name) => outer.includes(name)));
}

/** A service account and a workload are in the namespace that their name says. */
function coversNamespaces(outer: readonly string[] | undefined, inner: PeerMatch): boolean {
  if (outer === undefined) return true;
  const pinned = [inner.namespaces, inner.serviceAccounts?.map(namespaceOf), inner.workloads?.map(namespaceOf)];
  return pinned.some((names) => names?.every((name) => outer.includes(name)) === true);
}

function namespaceOf(name: string): string {
  return name.slice(0, name.indexOf('/'));
}

function coversLabels(outer: PeerMatch['labels'], inner: PeerMatch['labels']): boolean {
  return Object.entries(outer ?? {}).every(([label, value]) => inner?.[label] === value);
}

function coversAddresses(outer: PeerMatch, inner: PeerMatch): boolean {
  const [excepted, kept] = [parseAll(outer.exceptCidrs), parseAll(inner.exceptCidrs)];
  const wanted = inner.cidrs === undefined ? null : parseAll(inner.cidrs);
  const isExcepted = (hole: Cidr): boolean =>
    kept.some((except) => contains(except, hole)) ||
    (wanted !== null && wanted.every((network) => !contains(network, hole) && !contains(hole, network)));
  if (!excepted.every(isExcepted)) return false;
  if (outer.cidrs === undefined) return true;
  const networks = parseAll(outer.cidrs);
  return wanted !== null && wanted.every((network) => networks.some((larger) => contains(larger, network)));
}

function contains(larger: Cidr, smaller: Cidr): boolean {
  return larger.prefixLength <= smaller.prefixLength && cidrContains(larger, smaller.bytes);
}

function parseAll(texts: readonly string[] | undefined): Cidr[] {
  return (texts ?? []).map(parseCidr).filter((cidr) => cidr !== undefined);
}
