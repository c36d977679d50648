import type { PartyFacts, SourceFacts } from './connection-facts.js';
import { PeerIndex } from './peer-index.js';
import { PortIndex } from './port-index.js';
import type { PreparedPeer } from './prepared-peer.js';
import type { PreparedRule } from './prepared-rule.js';
import { addBits, emptyBits, setBit, type RuleBits } from './rule-bits.js';

/**
 * Says which rules are about a source, which about a destination, and which about a port. A connection is then decided
 * by those in all three sets: 10,000 rules are 313 words to compare.
 */
export class RuleIndex {
  readonly #sources: SideIndex;
  readonly #destinations: SideIndex;
  readonly #ports: PortIndex;
  readonly #denying: RuleBits;

  /** `rules` in the order of evaluation. */
  constructor({ rules }: { readonly rules: readonly PreparedRule[] }) {
    this.#sources = new SideIndex(rules.map(({ from }) => from));
    this.#destinations = new SideIndex(rules.map(({ to }) => to));
    this.#ports = new PortIndex({ ports: rules.map(({ rule }) => rule.ports) });
    this.#denying = emptyBits(rules.length);
    for (const [position, { rule }] of rules.entries()) if (rule.action === 'deny') setBit(this.#denying, position);
  }

  get bytesPerSet(): number {
    return this.#denying.byteLength;
  }

  /** A rule that denies also holds against who the source seems to be ({@link SourceFacts}). */
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

/** The rules of which one peer is a part; a set of bits when they are many. */
type Users = { readonly peer: PreparedPeer; readonly positions: number[]; bits: RuleBits | null };

/** More positions than this are quicker added as a whole set. */
const maxPositions = 64;

/** One side of all rules: for each a list of peers, of which an empty one is everybody. Peers that are alike are one. */
class SideIndex {
  readonly #everybody: RuleBits;
  readonly #index: PeerIndex<Users>;

  constructor(lists: readonly (readonly PreparedPeer[])[]) {
    this.#everybody = emptyBits(lists.length);
    const byPeer = new Map<PreparedPeer, Users>();
    for (const [position, peers] of lists.entries()) {
      if (peers.length === 0) setBit(this.#everybody, position);
      for (const peer of peers) {
        const users = byPeer.get(peer);
        if (users === undefined) byPeer.set(peer, { peer, positions: [position], bits: null });
        else users.positions.push(position);
      }
    }
    for (const users of byPeer.values()) {
      if (users.positions.length <= maxPositions) continue;
      users.bits = emptyBits(lists.length);
      for (const position of users.positions) setBit(users.bits, position);
    }
    this.#index = new PeerIndex({ entries: [...byPeer.values()].map((users) => ({ peer: users.peer, value: users })) });
  }

  matching(facts: PartyFacts): RuleBits {
    const found = this.#everybody.slice();
    this.#index.forEachMatch(facts, ({ bits, positions }) => {
      if (bits === null) for (const position of positions) setBit(found, position);
      else addBits(found, bits);
    });
    return found;
  }
}
