import {
  isSegmentRef,
  type CompiledRule,
  type CompiledSegment,
  type PeerMatch,
  type RulePeer,
  type Snapshot,
} from '../../shared/policy/snapshot.js';

/**
 * The alternatives of one side of a rule, written out in groups: the members of each segment that it refers to, and the
 * peers that it lists. Rules that refer to the same segment share the group. Without a group every party matches.
 */
export type PeerGroups = readonly (readonly PeerMatch[])[];

/** A rule with its segments written out, for analysis. */
export type OpenRule = Omit<CompiledRule, 'from' | 'to'> & { readonly from: PeerGroups; readonly to: PeerGroups };

/** Groups that many rules may have. */
const shared = new WeakSet<readonly PeerMatch[]>();

export function isOfSegment(group: readonly PeerMatch[]): boolean {
  return shared.has(group);
}

const known = new WeakMap<Snapshot, SegmentMembers>();

/** Those of a snapshot, made once. */
export function segmentMembersOf(snapshot: Snapshot): SegmentMembers {
  let members = known.get(snapshot);
  if (members === undefined) known.set(snapshot, (members = new SegmentMembers(snapshot)));
  return members;
}

/** The segments of one snapshot, each written out when it is first asked for. */
export class SegmentMembers {
  readonly #segments: ReadonlyMap<string, CompiledSegment>;
  readonly #known = new Map<string, readonly PeerMatch[]>();

  constructor({ segments }: { readonly segments?: readonly CompiledSegment[] }) {
    this.#segments = new Map((segments ?? []).map((segment) => [segment.name, segment]));
  }

  open(rule: CompiledRule): OpenRule {
    return { ...rule, from: this.groupsOf(rule.from), to: this.groupsOf(rule.to) };
  }

  groupsOf(peers: readonly RulePeer[]): PeerGroups {
    const written: PeerMatch[] = [];
    const groups: (readonly PeerMatch[])[] = [];
    for (const peer of peers) {
      if (isSegmentRef(peer)) groups.push(this.#membersOf(peer.memberOf));
      else written.push(peer);
    }
    return written.length === 0 ? groups : [...groups, written];
  }

  /** Each alternative, one after another. */
  *matchesOf(peers: readonly RulePeer[]): Generator<PeerMatch> {
    for (const group of this.groupsOf(peers)) yield* group;
  }

  /** The names of these segments and of all inside them. */
  within(peers: readonly RulePeer[]): Set<CompiledSegment> {
    const found = new Set<CompiledSegment>();
    const add = (list: readonly RulePeer[]): void => {
      for (const peer of list) {
        const segment = isSegmentRef(peer) ? this.#segments.get(peer.memberOf) : undefined;
        if (segment !== undefined) found.add(segment);
      }
    };
    add(peers);
    // A set is visited in the order of insertion, also while it grows.
    for (const { members } of found) add(members);
    return found;
  }

  #membersOf(memberOf: string): readonly PeerMatch[] {
    let members = this.#known.get(memberOf);
    if (members === undefined) {
      const written = [...this.within([{ memberOf }])].flatMap((segment) => segment.members);
      members = written.filter((peer): peer is PeerMatch => !isSegmentRef(peer));
      this.#known.set(memberOf, members);
      shared.add(members);
    }
    return members;
  }
}
