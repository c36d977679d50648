import type { PartyFacts } from './connection-facts.js';
import { NetworkIndex } from './network-index.js';
import { matchesPeer, type PreparedPeer } from './prepared-peer.js';

type Entry<T> = { readonly peer: PreparedPeer; readonly value: T };

/**
 * Finds, among thousands of peers, those that match a party. Each peer is kept under the rarest of the names that it
 * asks for (a workload, a service account, a namespace, one label, a node, a network), so that only those are looked at
 * that have one of the party's own names; and under none when it asks for no name.
 */
export class PeerIndex<T> {
  readonly #byName = new Map<string, Entry<T>[]>();
  readonly #byNetwork = new NetworkIndex<Entry<T>>();
  readonly #rest: Entry<T>[] = [];

  constructor({ entries }: { readonly entries: readonly Entry<T>[] }) {
    const frequencies = countNames(entries);
    for (const entry of entries) this.#add(entry, frequencies);
  }

  /** A value may come more than once. */
  forEachMatch(facts: PartyFacts, visit: (value: T) => void): void {
    const consider = ({ peer, value }: Entry<T>) => {
      if (matchesPeer(peer, facts)) visit(value);
    };
    for (const name of namesOfParty(facts)) this.#byName.get(name)?.forEach(consider);
    this.#byNetwork.forEach(facts.ip, consider);
    this.#rest.forEach(consider);
  }

  #add(entry: Entry<T>, frequencies: ReadonlyMap<string, number>): void {
    const rarest = rarestOf(namesOfPeer(entry.peer), frequencies);
    if (rarest !== undefined) {
      for (const name of rarest) {
        const others = this.#byName.get(name);
        if (others === undefined) this.#byName.set(name, [entry]);
        else others.push(entry);
      }
      return;
    }
    const { cidrs } = entry.peer;
    if (cidrs === null) this.#rest.push(entry);
    else for (const cidr of cidrs) this.#byNetwork.add(cidr, entry);
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

function countNames(entries: readonly Entry<unknown>[]): Map<string, number> {
  const frequencies = new Map<string, number>();
  for (const { peer } of entries) {
    for (const name of namesOfPeer(peer).flat()) frequencies.set(name, (frequencies.get(name) ?? 0) + 1);
  }
  return frequencies;
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
