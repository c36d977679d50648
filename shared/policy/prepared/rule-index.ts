import type { PartyFacts, SourceFacts } from '../connection-facts.js';
import type { PeerIndex } from './peer-index.js';
import { PortIndex } from './port-index.js';
import type { PreparedParts } from './prepared-parts.js';
import type { PreparedPeer } from './prepared-peer.js';
import type { PreparedRule } from './prepared-rule.js';
import { addBits, emptyBits, setBit, type RuleBits } from './rule-bits.js';

/**
 * Finds the rules that match a source, a destination and a port. The rules in all three sets decide a connection: for
 * 10,000 rules these are 313 words to compare.
 */
export class RuleIndex {
  readonly #sources: SideIndex;
  readonly #destinations: SideIndex;
  readonly #ports: PortIndex;
  readonly #denying: RuleBits;

  /** `rules`: in evaluation order. Their peers are added to the indexes of `parts`. */
  constructor(init: { readonly rules: readonly PreparedRule[]; readonly parts: PreparedParts }) {
    const { rules, parts } = init;
    this.#sources = new SideIndex({ lists: rules.map(({ from }) => from), index: parts.sources });
    this.#destinations = new SideIndex({ lists: rules.map(({ to }) => to), index: parts.destinations });
    this.#ports = new PortIndex({ ports: rules.map(({ rule }) => rule.ports) });
    this.#denying = emptyBits(rules.length);
    for (const [position, { rule }] of rules.entries()) if (rule.action === 'deny') setBit(this.#denying, position);
  }

  get bytesPerSet(): number {
    return this.#denying.byteLength;
  }

  /** The number of distinct peers on both sides of all rules. */
  get peers(): number {
    return this.#sources.peers + this.#destinations.peers;
  }

  /** A deny rule also applies to the workload that the source only claims to be (see {@link SourceFacts}). */
  ofSource({ source, claimedSource }: SourceFacts): RuleBits {
    const bits = this.#sources.matching(source);
    if (claimedSource === null) return bits;
    const claimed = this.#sources.matching(claimedSource);
    return bits.map((word, index) => word | ((claimed[index] ?? 0) & (this.#denying[index] ?? 0)));
  }

  ofDestination(destination: PartyFacts): RuleBits {
    return this.#destinations.matching(destination);
  }

  ofPort(port: number): RuleBits {
    return this.#ports.matching(port);
  }
}

/** The rules that name one peer; also as a bit set when there are many. */
type Users = { readonly positions: number[]; bits: RuleBits | null };

/** Above this number of positions, merging a bit set is faster. */
const maxPositions = 64;

/** One side of all rules: a list of peers for each rule, of which an empty one matches every party. */
class SideIndex {
  readonly #everybody: RuleBits;
  readonly #users = new Map<PreparedPeer, Users>();
  /** May also find peers of other revisions. */
  readonly #index: PeerIndex;

  constructor(init: { readonly lists: readonly (readonly PreparedPeer[])[]; readonly index: PeerIndex }) {
    const { lists, index } = init;
    this.#index = index;
    this.#everybody = emptyBits(lists.length);
    for (const [position, peers] of lists.entries()) {
      if (peers.length === 0) setBit(this.#everybody, position);
      for (const peer of peers) {
        const users = this.#users.get(peer);
        if (users === undefined) this.#users.set(peer, { positions: [position], bits: null });
        else users.positions.push(position);
      }
    }
    for (const users of this.#users.values()) {
      if (users.positions.length <= maxPositions) continue;
      users.bits = emptyBits(lists.length);
      for (const position of users.positions) setBit(users.bits, position);
    }
    index.add(this.#users.keys());
  }

  get peers(): number {
    return this.#users.size;
  }

  matching(facts: PartyFacts): RuleBits {
    const found = this.#everybody.slice();
    this.#index.forEachMatch(facts, (peer) => {
      const users = this.#users.get(peer);
      if (users === undefined) return;
      if (users.bits === null) for (const position of users.positions) setBit(found, position);
      else addBits(found, users.bits);
    });
    return found;
  }
}
