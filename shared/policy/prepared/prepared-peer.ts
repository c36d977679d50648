import { cidrContains, parseCidr, type Cidr } from '../../address.js';
import { CulvertError } from '../../errors.js';
import type { PartyFacts } from '../connection-facts.js';
import type { PeerMatch } from '../snapshot.js';

/** A {@link PeerMatch} in the form that is quick to ask. Null: not asked for. */
export type PreparedPeer = {
  readonly match: PeerMatch;
  readonly namespaces: ReadonlySet<string> | null;
  readonly serviceAccounts: ReadonlySet<string> | null;
  readonly workloads: ReadonlySet<string> | null;
  readonly nodes: ReadonlySet<string> | null;
  readonly labels: LabelPairs | null;
  readonly namespaceLabels: LabelPairs | null;
  readonly isExternal: boolean;
  readonly isUnauthenticated: boolean;
  readonly cidrs: readonly Cidr[] | null;
  readonly exceptCidrs: readonly Cidr[] | null;
};

export type LabelPairs = readonly (readonly [name: string, value: string])[];

/** Throws CulvertError `SNAPSHOT_INVALID` for a CIDR that cannot be read. */
export function preparePeer(match: PeerMatch): PreparedPeer {
  return {
    match,
    namespaces: toSet(match.namespaces),
    serviceAccounts: toSet(match.serviceAccounts),
    workloads: toSet(match.workloads),
    nodes: toSet(match.nodes),
    labels: toPairs(match.labels),
    namespaceLabels: toPairs(match.namespaceLabels),
    isExternal: match.external === true,
    isUnauthenticated: match.unauthenticated === true,
    cidrs: match.cidrs?.map(readCidr) ?? null,
    exceptCidrs: match.exceptCidrs?.map(readCidr) ?? null,
  };
}

function toSet(values: readonly string[] | undefined): ReadonlySet<string> | null {
  return values === undefined ? null : new Set(values);
}

function toPairs(labels: Readonly<Record<string, string>> | undefined): LabelPairs | null {
  return labels === undefined ? null : Object.entries(labels);
}

export function readCidr(text: string): Cidr {
  const cidr = parseCidr(text);
  if (cidr !== undefined) return cidr;
  throw new CulvertError({
    code: 'SNAPSHOT_INVALID',
    message: `The rules contain "${text}", which is not a CIDR.`,
    hint: 'run the same version of culvert-agent and culvert-controller',
  });
}

/** An empty list is everybody. */
export function matchesAnyPeer(peers: readonly PreparedPeer[], facts: PartyFacts): boolean {
  if (peers.length === 0) return true;
  for (const peer of peers) if (matchesPeer(peer, facts)) return true;
  return false;
}

/** Every field that the peer names must hold; a fact that is not known never holds. */
export function matchesPeer(peer: PreparedPeer, facts: PartyFacts): boolean {
  return (
    has(peer.namespaces, facts.namespace) &&
    has(peer.serviceAccounts, facts.serviceAccount) &&
    has(peer.workloads, facts.workload) &&
    has(peer.nodes, facts.node) &&
    (peer.labels === null || hasLabels(peer.labels, facts.labels)) &&
    (peer.namespaceLabels === null || hasLabels(peer.namespaceLabels, facts.namespaceLabels)) &&
    (!peer.isExternal || facts.isExternal) &&
    (!peer.isUnauthenticated || facts.isUnauthenticated) &&
    (peer.cidrs === null || containsAny(peer.cidrs, facts.ip)) &&
    (peer.exceptCidrs === null || !containsAny(peer.exceptCidrs, facts.ip))
  );
}

function has(wanted: ReadonlySet<string> | null, fact: string | null): boolean {
  return wanted === null || (fact !== null && wanted.has(fact));
}

export function hasLabels(wanted: LabelPairs, labels: Readonly<Record<string, string>> | null): boolean {
  if (labels === null) return false;
  for (const [name, value] of wanted) {
    // A label may be called "constructor".
    if (!Object.hasOwn(labels, name) || labels[name] !== value) return false;
  }
  return true;
}

export function containsAny(cidrs: readonly Cidr[], ip: readonly number[]): boolean {
  for (const cidr of cidrs) if (cidrContains(cidr, ip)) return true;
  return false;
}
