import type { Cidr } from '../../address.js';
import type { PartyFacts } from '../connection-facts.js';
import { fieldsOf, matchFields, useField } from '../match-fields.js';
import { NetworkIndex } from './network-index.js';
import { matchesPeer, type PreparedPeer } from './prepared-peer.js';

/**
 * Finds the peers that match a party among thousands. Each peer is stored under the rarest of the names it requires (a
 * workload, a service account, a namespace, one label, a node, a network), so a look-up visits only peers that share a
 * name with the party. Peers that require no name are always visited.
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

  /** Peers that are already in the index are skipped. */
  add(peers: Iterable<PreparedPeer>): void {
    const fresh = new Map<PreparedPeer, Ways>();
    for (const peer of peers) if (!this.#known.has(peer)) fresh.set(peer, waysTo(peer));
    for (const ways of fresh.values()) this.#count(ways);
    for (const [peer, ways] of fresh) this.#insert(peer, ways);
  }

  /** Visits each matching peer; a peer may be visited more than once. */
  forEachMatch(facts: PartyFacts, visit: (peer: PreparedPeer) => void): void {
    const consider = (peer: PreparedPeer): void => {
      if (matchesPeer(peer, facts)) visit(peer);
    };
    const considerNamed = (name: string): void => this.#byName.get(name)?.forEach(consider);
    for (const index of nameIndexes) index.forEachKey(facts, considerNamed);
    this.#byNetwork.forEach(facts.ip, consider);
    this.#rest.forEach(consider);
  }

  #count(ways: Ways): void {
    for (const names of ways) {
      for (const name of names) this.#frequencies.set(name, (this.#frequencies.get(name) ?? 0) + 1);
    }
  }

  #insert(peer: PreparedPeer, ways: Ways): void {
    this.#known.add(peer);
    const rarest = rarestOf(ways, this.#frequencies);
    if (rarest !== undefined) {
      for (const name of rarest) {
        const others = this.#byName.get(name);
        if (others === undefined) this.#byName.set(name, [peer]);
        else others.push(peer);
      }
      return;
    }
    const networks = networksOf(peer);
    if (networks === undefined) this.#rest.push(peer);
    else for (const network of networks) this.#byNetwork.add(network, peer);
  }
}

/** Ways to find a peer. It can only match a party that has at least one name from each set. */
type Ways = readonly (readonly string[])[];

function waysTo({ match }: PreparedPeer): Ways {
  const ways: (readonly string[])[] = [];
  for (const field of fieldsOf(match)) {
    const found = useField(field, match, ({ index }, value) =>
      index?.by === 'name' ? index.keysOf(value) : undefined,
    );
    if (found !== undefined) ways.push(...found);
  }
  return ways;
}

/** Undefined: the peer does not select by network. */
function networksOf({ match }: PreparedPeer): readonly Cidr[] | undefined {
  for (const field of fieldsOf(match)) {
    const found = useField(field, match, ({ index }, value) =>
      index?.by === 'network' ? index.networksOf(value) : undefined,
    );
    if (found !== undefined) return found;
  }
  return undefined;
}

const nameIndexes = Object.values(matchFields).flatMap(({ index }) => (index?.by === 'name' ? [index] : []));

function rarestOf(ways: Ways, frequencies: ReadonlyMap<string, number>): readonly string[] | undefined {
  let rarest: readonly string[] | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const names of ways) {
    const most = names.reduce((max, name) => Math.max(max, frequencies.get(name) ?? 0), 0);
    if (most >= least) continue;
    rarest = names;
    least = most;
  }
  return rarest;
}
