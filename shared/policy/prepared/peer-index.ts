import type { PartyFacts } from '../connection-facts.js';
import { NetworkIndex } from './network-index.js';
import { matchesPeer, type PreparedPeer } from './prepared-peer.js';

/**
 * Finds, among thousands of peers, those that match a party. Each peer is kept under the rarest of the names that it
 * asks for (a workload, a service account, a namespace, one label, a node, a network), so that only those are looked at
 * that have one of the party's own names; and under none when it asks for no name.
 */
export class PeerIndex {
  readonly #known = new Set<PreparedPeer>();
  readonly #frequencies = new Map<string, number>();
  readonly #byName = new Map<string, PreparedPeer[]>();
  readonly #byNetwork = new NetworkIndex<PreparedPeer>();
  readonly #rest: PreparedPeer[] = [];

  /** How many peers there are. */
  get size(): number {
    return this.#known.size;
  }

  /** Those that are there already are left as they are. */
  add(peers: Iterable<PreparedPeer>): void {
    const fresh = new Set<PreparedPeer>();
    for (const peer of peers) if (!this.#known.has(peer)) fresh.add(peer);
    for (const peer of fresh) this.#count(peer);
    for (const peer of fresh) this.#insert(peer);
  }

  /** A peer may come more than once. */
  forEachMatch(facts: PartyFacts, visit: (peer: PreparedPeer) => void): void {
    const consider = (peer: PreparedPeer): void => {
      if (matchesPeer(peer, facts)) visit(peer);
    };
    for (const name of namesOfParty(facts)) this.#byName.get(name)?.forEach(consider);
    this.#byNetwork.forEach(facts.ip, consider);
    this.#rest.forEach(consider);
  }

  #count(peer: PreparedPeer): void {
    for (const name of namesOfPeer(peer).flat()) this.#frequencies.set(name, (this.#frequencies.get(name) ?? 0) + 1);
  }

  #insert(peer: PreparedPeer): void {
    this.#known.add(peer);
    const rarest = rarestOf(namesOfPeer(peer), this.#frequencies);
    if (rarest !== undefined) {
      for (const name of rarest) {
        const others = this.#byName.get(name);
        if (others === undefined) this.#byName.set(name, [peer]);
        else others.push(peer);
      }
      return;
    }
    if (peer.cidrs === null) this.#rest.push(peer);
    else for (const cidr of peer.cidrs) this.#byNetwork.add(cidr, peer);
  }
}

/** Ways to find a peer: it matches only who has a name of each of these sets. */
function namesOfPeer({ workloads, serviceAccounts, namespaces, nodes, labels }: PreparedPeer): string[][] {
  const ways: string[][] = [];
  if (workloads !== null) ways.push([...workloads].map((name) => `workload ${name}`));
  if (serviceAccounts !== null) ways.push([...serviceAccounts].map((name) => `account ${name}`));
  if (namespaces !== null) ways.push([...namespaces].map((name) => `namespace ${name}`));
  if (nodes !== null) ways.push([...nodes].map((name) => `node ${name}`));
  for (const [name, value] of labels ?? []) ways.push([`label ${name}=${value}`]);
  return ways;
}

function namesOfParty({ workload, serviceAccount, namespace, node, labels }: PartyFacts): string[] {
  const names: string[] = [];
  if (workload !== null) names.push(`workload ${workload}`);
  if (serviceAccount !== null) names.push(`account ${serviceAccount}`);
  if (namespace !== null) names.push(`namespace ${namespace}`);
  if (node !== null) names.push(`node ${node}`);
  for (const [name, value] of Object.entries(labels ?? {})) names.push(`label ${name}=${value}`);
  return names;
}

function rarestOf(ways: readonly string[][], frequencies: ReadonlyMap<string, number>): string[] | undefined {
  let rarest: string[] | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const names of ways) {
    const most = names.reduce((max, name) => Math.max(max, frequencies.get(name) ?? 0), 0);
    if (most >= least) continue;
    rarest = names;
    least = most;
  }
  return rarest;
}
