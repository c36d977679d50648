import { CulvertError } from '../../errors.js';
import type { PartyFacts } from '../connection-facts.js';
import { matchesAnyPeer, type PreparedPeer } from './prepared-peer.js';
import { isSegmentRef, type CompiledSegment, type PeerMatch, type RulePeer } from '../snapshot.js';

/** A segment prepared once for all rules that name it. Equal objects have equal members, also those of inner segments. */
export class PreparedSegment {
  readonly name: string;
  /** Members that are written in the segment itself. */
  readonly peers: readonly PreparedPeer[];
  readonly inner: readonly PreparedSegment[];
  readonly #known = new WeakMap<PartyFacts, boolean>();

  constructor(init: {
    readonly name: string;
    readonly peers: readonly PreparedPeer[];
    readonly inner: readonly PreparedSegment[];
  }) {
    this.name = init.name;
    this.peers = init.peers;
    this.inner = init.inner;
  }

  /** Whether a party is a member. For explanations: decisions find the segments of a party by an index. */
  has(facts: PartyFacts): boolean {
    let answer = this.#known.get(facts);
    if (answer === undefined) this.#known.set(facts, (answer = this.#find(facts)));
    return answer;
  }

  #find(facts: PartyFacts): boolean {
    for (const segment of withInner([this])) if (matchesAnyPeer(segment.peers, facts)) return true;
    return false;
  }
}

/** These segments and all inside them, each once. Segments may be thousands deep, so nothing recurses. */
export function withInner(segments: Iterable<PreparedSegment>): Set<PreparedSegment> {
  const found = new Set(segments);
  // A set is visited in the order of insertion, also while it grows.
  for (const { inner } of found) for (const segment of inner) found.add(segment);
  return found;
}

/** The segments of one snapshot by name. */
export type SegmentsByName = ReadonlyMap<string, PreparedSegment>;

/** Prepares segments, and takes those over whose members are the same objects as before. */
export class PreparedSegments {
  readonly #peer: (match: PeerMatch) => PreparedPeer;
  readonly #known = new WeakMap<CompiledSegment, PreparedSegment>();

  constructor({ peer }: { readonly peer: (match: PeerMatch) => PreparedPeer }) {
    this.#peer = peer;
  }

  /** Throws CulvertError `SNAPSHOT_INVALID` when a segment names one that is not before it. */
  of(segments: readonly CompiledSegment[]): SegmentsByName {
    const byName = new Map<string, PreparedSegment>();
    for (const segment of segments) {
      const inner = segmentsIn(segment.members, byName);
      const known = this.#known.get(segment);
      const isSame = known !== undefined && known.inner.every((one, index) => one === inner[index]);
      const prepared = isSame
        ? known
        : new PreparedSegment({ name: segment.name, peers: matchesIn(segment.members).map(this.#peer), inner });
      this.#known.set(segment, prepared);
      byName.set(segment.name, prepared);
    }
    return byName;
  }
}

/** Throws CulvertError `SNAPSHOT_INVALID` when the snapshot lacks one: nothing may be decided without its members. */
export function segmentsIn(peers: readonly RulePeer[], byName: SegmentsByName): PreparedSegment[] {
  return peers.filter(isSegmentRef).map(({ memberOf }) => {
    const segment = byName.get(memberOf);
    if (segment !== undefined) return segment;
    throw new CulvertError({
      code: 'SNAPSHOT_INVALID',
      message: `The rules name the segment "${memberOf}", which is not in them.`,
      hint: 'run the same version of culvert-agent and culvert-controller',
    });
  });
}

export function matchesIn(peers: readonly RulePeer[]): PeerMatch[] {
  return peers.filter((peer): peer is PeerMatch => !isSegmentRef(peer));
}
