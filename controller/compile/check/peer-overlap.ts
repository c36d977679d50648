import ipaddr from 'ipaddr.js';
import { cidrContains, parseCidr, type Cidr } from '../../../shared/address.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';

/**
 * Whether somebody can be in both, whatever workloads there are now: labels and addresses change without a new revision.
 * Returns such a somebody in words, or undefined when the two exclude each other.
 */
export function overlapOfPeers(a: PeerMatch, b: PeerMatch): string | undefined {
  // First what needs no memory: rules by network are compared by the million.
  const address = commonAddress(a, b);
  if (address === null) return undefined;
  const accounts = intersect(a.serviceAccounts, b.serviceAccounts);
  const workloads = intersect(a.workloads, b.workloads);
  const namespace = commonNamespace(intersect(a.namespaces, b.namespaces), accounts, workloads);
  const nodes = intersect(a.nodes, b.nodes);
  const labels = mergeLabels(a.labels, b.labels);
  const namespaceLabels = mergeLabels(a.namespaceLabels, b.namespaceLabels);
  const isExternal = a.external === true || b.external === true;
  const isUnauthenticated = a.unauthenticated === true || b.unauthenticated === true;
  if (isExternal && (isMember(a) || isMember(b))) return undefined;
  if (namespaceLabels === null || namespace === null || nodes?.length === 0 || labels === null) return undefined;
  const parts = [
    firstIn(workloads, namespace, 'workload'),
    firstIn(accounts, namespace, 'service account'),
    namespace === undefined ? undefined : `in namespace ${namespace}`,
    namespaceLabels === undefined ? undefined : `in a namespace labelled ${namespaceLabels}`,
    labels === undefined ? undefined : `labelled ${labels}`,
    nodes === undefined ? undefined : `on node ${nodes[0] ?? ''}`,
    isExternal ? 'outside the mesh' : undefined,
    isUnauthenticated ? 'without an identity' : undefined,
    address === undefined ? undefined : `with address ${address}`,
  ].filter((part) => part !== undefined);
  return parts.length === 0 ? 'anybody' : parts.join(' ');
}

function isMember({ namespaces, namespaceLabels, labels, serviceAccounts, workloads, nodes }: PeerMatch): boolean {
  return [namespaces, namespaceLabels, labels, serviceAccounts, workloads, nodes].some((field) => field !== undefined);
}

/** The overlap of two lists of alternatives; an empty list is everybody. */
export function overlapOfPeerLists(a: readonly PeerMatch[], b: readonly PeerMatch[]): string | undefined {
  if (a.length === 0 && b.length === 0) return 'anybody';
  for (const left of a.length === 0 ? [{}] : a) {
    for (const right of b.length === 0 ? [{}] : b) {
      const overlap = overlapOfPeers(left, right);
      if (overlap !== undefined) return overlap;
    }
  }
  return undefined;
}

/** Undefined stands for everything. */
function intersect(a: readonly string[] | undefined, b: readonly string[] | undefined): readonly string[] | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  const others = new Set(b);
  return a.filter((value) => others.has(value));
}

/** Undefined: any namespace; null: there is none. */
function commonNamespace(
  namespaces: readonly string[] | undefined,
  accounts: readonly string[] | undefined,
  workloads: readonly string[] | undefined,
): string | undefined | null {
  const constraints = [namespaces, accounts?.map(namespaceOf), workloads?.map(namespaceOf)].filter(
    (constraint) => constraint !== undefined,
  );
  const [first, ...rest] = constraints;
  if (first === undefined) return undefined;
  return first.find((candidate) => rest.every((constraint) => constraint.includes(candidate))) ?? null;
}

function namespaceOf(namespacedName: string): string {
  return namespacedName.slice(0, namespacedName.indexOf('/'));
}

function firstIn(names: readonly string[] | undefined, namespace: string | undefined, what: string) {
  const name = names?.find((candidate) => namespaceOf(candidate) === namespace);
  return name === undefined ? undefined : `${what} ${name}`;
}

function mergeLabels(a: PeerMatch['labels'], b: PeerMatch['labels']): string | undefined | null {
  const merged = new Map(Object.entries(a ?? {}));
  for (const [name, value] of Object.entries(b ?? {})) {
    if ((merged.get(name) ?? value) !== value) return null;
    merged.set(name, value);
  }
  return merged.size === 0 ? undefined : [...merged].map(([name, value]) => `${name}=${value}`).join(',');
}

type Networks = { readonly cidrs: readonly Cidr[]; readonly excepts: readonly Cidr[] };

const everything: readonly Cidr[] = parseAll(['0.0.0.0/0', '::/0']);
/** Each match is compared with thousands of others. */
const networksOf = new WeakMap<PeerMatch, Networks>();

function networks(match: PeerMatch): Networks {
  const known = networksOf.get(match);
  if (known !== undefined) return known;
  const { cidrs, exceptCidrs = [] } = match;
  const parsed = { cidrs: cidrs === undefined ? everything : parseAll(cidrs), excepts: parseAll(exceptCidrs) };
  networksOf.set(match, parsed);
  return parsed;
}

function parseAll(texts: readonly string[]): Cidr[] {
  return texts.map(parseCidr).filter((cidr) => cidr !== undefined);
}

/** Undefined: any address; null: there is none. */
function commonAddress(a: PeerMatch, b: PeerMatch): string | undefined | null {
  if (a.cidrs === undefined && b.cidrs === undefined) return undefined;
  const [networksA, networksB] = [networks(a), networks(b)];
  for (const left of networksA.cidrs) {
    for (const right of networksB.cidrs) {
      const smaller = left.prefixLength >= right.prefixLength ? left : right;
      const larger = smaller === left ? right : left;
      if (!cidrContains(larger, smaller.bytes)) continue;
      const address = addressOutside(smaller, [...networksA.excepts, ...networksB.excepts]);
      if (address !== undefined) return address;
    }
  }
  return null;
}

/** An address of `network` that no exception covers, found by halving; undefined when they cover all of it. */
function addressOutside(network: Cidr, excepts: readonly Cidr[]): string | undefined {
  if (excepts.some((except) => except.prefixLength <= network.prefixLength && cidrContains(except, network.bytes))) {
    return undefined;
  }
  const inside = excepts.filter((except) => cidrContains(network, except.bytes));
  if (inside.length === 0) return network.base;
  const [low, high] = halves(network);
  return addressOutside(low, inside) ?? addressOutside(high, inside);
}

function halves({ base, bytes, prefixLength }: Cidr): [Cidr, Cidr] {
  const upper = [...bytes];
  const index = Math.floor(prefixLength / 8);
  upper[index] = (upper[index] ?? 0) | (0x80 >> (prefixLength % 8));
  const low = { base, bytes, prefixLength: prefixLength + 1 };
  const high = parseCidr(`${ipaddr.fromByteArray(upper).toString()}/${prefixLength + 1}`);
  return [low, high ?? low];
}
