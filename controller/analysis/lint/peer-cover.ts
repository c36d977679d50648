import { cidrContains, parseCidr, type Cidr } from '../../../shared/address.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';

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
  if (outer.cidrs === undefined && outer.exceptCidrs === undefined) return true;
  if (outer.cidrs !== undefined && inner.cidrs === undefined) return false;
  const { cidrs: networks, excepts: excepted } = networksOf(outer);
  const { cidrs: wanted, excepts: kept } = networksOf(inner);
  const isExcepted = (hole: Cidr): boolean =>
    kept.some((except) => contains(except, hole)) ||
    (wanted !== null && wanted.every((network) => !contains(network, hole) && !contains(hole, network)));
  if (!excepted.every(isExcepted)) return false;
  if (outer.cidrs === undefined) return true;
  return (
    networks !== null &&
    wanted !== null &&
    wanted.every((network) => networks.some((larger) => contains(larger, network)))
  );
}

function contains(larger: Cidr, smaller: Cidr): boolean {
  return larger.prefixLength <= smaller.prefixLength && cidrContains(larger, smaller.bytes);
}

type Networks = { readonly cidrs: readonly Cidr[] | null; readonly excepts: readonly Cidr[] };

/** Each peer is compared with thousands of others. */
const known = new WeakMap<PeerMatch, Networks>();

function networksOf(peer: PeerMatch): Networks {
  let networks = known.get(peer);
  if (networks !== undefined) return networks;
  networks = { cidrs: peer.cidrs === undefined ? null : parseAll(peer.cidrs), excepts: parseAll(peer.exceptCidrs) };
  known.set(peer, networks);
  return networks;
}

function parseAll(texts: readonly string[] | undefined): Cidr[] {
  return (texts ?? []).map(parseCidr).filter((cidr) => cidr !== undefined);
}
