import type { PortNames } from '../connection.js';
import type { PartyFacts, SourceFacts } from '../connection-facts.js';
import type { PeerIndex } from './peer-index.js';
import { PortIndex } from './port-index.js';
import type { PreparedParts } from './prepared-parts.js';
import type { PreparedPeer } from './prepared-peer.js';
import { withInner, type PreparedSegment } from './prepared-segment.js';
import { isEverybody, type PreparedSide } from './prepared-side.js';
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
    this.#sources = new SideIndex({ sides: rules.map(({ from }) => from), index: parts.sources });
    this.#destinations = new SideIndex({ sides: rules.map(({ to }) => to), index: parts.destinations });
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

  /** `names`: the named ports of the destination. */
  ofPort(port: number, names: PortNames | null): RuleBits {
    return this.#ports.matching(port, names);
  }
}

/** The rules that name one peer or segment; also as a bit set when there are many. */
type Users = { readonly positions: number[]; bits: RuleBits | null };

/** Above this number of positions, merging a bit set is faster. */
const maxPositions = 64;

/** One side of all rules. */
class SideIndex {
  readonly #everybody: RuleBits;
  readonly #users = new Map<PreparedPeer, Users>();
  readonly #segmentUsers = new Map<PreparedSegment, Users>();
  /** The segments that a peer or another segment is written in. */
  readonly #around = new Map<PreparedPeer | PreparedSegment, PreparedSegment[]>();
  /** May also find peers of other revisions. */
  readonly #index: PeerIndex;

  constructor(init: { readonly sides: readonly PreparedSide[]; readonly index: PeerIndex }) {
    const { sides, index } = init;
    this.#index = index;
    this.#everybody = emptyBits(sides.length);
    for (const [position, side] of sides.entries()) {
      if (isEverybody(side)) setBit(this.#everybody, position);
      for (const peer of side.peers) addUser(this.#users, peer, position);
      for (const segment of side.segments) addUser(this.#segmentUsers, segment, position);
    }
    for (const segment of withInner(this.#segmentUsers.keys())) {
      for (const member of [...segment.peers, ...segment.inner]) {
        const around = this.#around.get(member);
        if (around === undefined) this.#around.set(member, [segment]);
        else around.push(segment);
      }
      for (const peer of segment.peers)
        if (!this.#users.has(peer)) this.#users.set(peer, { positions: [], bits: null });
    }
    for (const users of [...this.#users.values(), ...this.#segmentUsers.values()]) {
      if (users.positions.length <= maxPositions) continue;
      users.bits = emptyBits(sides.length);
      for (const position of users.positions) setBit(users.bits, position);
    }
    index.add(this.#users.keys());
  }

  get peers(): number {
    return this.#users.size;
  }

  matching(facts: PartyFacts): RuleBits {
    const found = this.#everybody.slice();
    const hasSegments = this.#around.size > 0;
    const segments = new Set<PreparedSegment>();
    this.#index.forEachMatch(facts, (peer) => {
      addTo(found, this.#users.get(peer));
      if (!hasSegments) return;
      for (const segment of this.#around.get(peer) ?? []) segments.add(segment);
    });
    if (!hasSegments) return found;
    // A set is visited in the order of insertion, also while it grows.
    for (const segment of segments) {
      addTo(found, this.#segmentUsers.get(segment));
      for (const outer of this.#around.get(segment) ?? []) segments.add(outer);
    }
    return found;
  }
}

function addUser<K>(users: Map<K, Users>, key: K, position: number): void {
  const known = users.get(key);
  if (known === undefined) users.set(key, { positions: [position], bits: null });
  else known.positions.push(position);
}

function addTo(found: RuleBits, users: Users | undefined): void {
  if (users === undefined) return;
  if (users.bits === null) for (const position of users.positions) setBit(found, position);
  else addBits(found, users.bits);
}
