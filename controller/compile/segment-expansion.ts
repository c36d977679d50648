import { nearestName } from '../../shared/nearest-name.js';
import { toPeerMatch, type Peer } from '../resources/kinds/peer.js';
import type { ProblemList } from '../resources/parse/problem-list.js';
import type { Resource } from '../resources/kinds/resource.js';
import type { Segment } from '../resources/kinds/segment.js';
import { mergePeerMatches, withoutOrigin } from './merge-peer-matches.js';
import { segmentOrder } from './segment-order.js';
import { ServicePeers } from './service-peers.js';
import { isSegmentRef, type CompiledSegment, type PeerMatch, type RulePeer } from '../../shared/policy/snapshot.js';

/**
 * Up to this many values (names, networks, labels) rules list the members of a segment themselves, so a rule grows by a
 * constant only. Agents from before segments were shared read such rules.
 */
const maxListed = 16;

type Expanded = {
  readonly segment: Segment;
  readonly members: readonly RulePeer[];
  /** All values in it and in the segments inside; more than {@link maxListed} when one of those is shared. */
  readonly values: number;
  /** Some member, also of the segments inside, is about parties that prove no identity. */
  readonly hasUnauthenticated: boolean;
};

/**
 * Replaces services by their endpoints, small segments by their members, and large ones by a reference to
 * {@link segments}. Missing segments and segments that contain themselves are reported to `problems`; their members are
 * then missing, so do not use a result with errors. What is reported does not depend on the order of documents. The work
 * grows with the text, however deep segments are nested.
 */
export class SegmentExpansion {
  readonly #segments: ReadonlyMap<string, Segment>;
  readonly #services: ServicePeers;
  readonly #problems: ProblemList;
  /** Each after those that it names. */
  readonly #expanded = new Map<string, Expanded>();

  constructor({ resources, problems }: { resources: readonly Resource[]; problems: ProblemList }) {
    const segments = resources.filter((resource) => resource.kind === 'Segment');
    this.#services = new ServicePeers({ resources });
    this.#segments = new Map(segments.map((segment) => [segment.metadata.name, segment]));
    this.#problems = problems;
    const { insideOut, circles } = segmentOrder(segments);
    for (const { segment, member, names } of circles) {
      const message = `the segment contains itself: ${names.join(' → ')}`;
      problems.error(memberAt(segment, member), message, 'remove one of these members');
    }
    for (const segment of insideOut) this.#expanded.set(segment.metadata.name, this.#expandSegment(segment));
  }

  /** All segments, each after those that it names. */
  get all(): Iterable<{ readonly segment: Segment; readonly members: readonly RulePeer[] }> {
    return this.#expanded.values();
  }

  /** The peers for a list of them. `resource` and `path`: where the list is written. */
  expand(peers: readonly Peer[], at: { resource: Resource; path: readonly PropertyKey[] }): RulePeer[] {
    const matches: PeerMatch[] = [];
    const shared = new Set<string>();
    for (const [index, peer] of peers.entries()) {
      const { segment, service } = peer;
      if (service !== undefined) matches.push(...this.#services.matchesOf(service));
      else if (segment === undefined) matches.push(toPeerMatch(peer));
      else {
        const found = this.#find(segment, { resource: at.resource, path: [...at.path, index, 'segment'] });
        if (found === null) continue;
        if (found.values > maxListed) shared.add(segment);
        else for (const match of found.members) matches.push({ ...match, segment });
      }
    }
    return [...[...shared].sort().map((memberOf) => ({ memberOf })), ...mergePeerMatches(matches)];
  }

  /** The segments that these lists refer to, directly or through others, each after those that it names. */
  segments(lists: Iterable<readonly RulePeer[]>): CompiledSegment[] {
    const named = new Set<string>();
    const name = (peers: readonly RulePeer[]): void => {
      for (const peer of peers) if (isSegmentRef(peer)) named.add(peer.memberOf);
    };
    for (const peers of lists) name(peers);
    // A set is visited in the order of insertion, also while it grows.
    for (const memberOf of named) name(this.#expanded.get(memberOf)?.members ?? []);
    return [...this.#expanded]
      .filter(([memberOf]) => named.has(memberOf))
      .map(([memberOf, { segment, members }]) => compiledOnce(segment, { name: memberOf, members }));
  }

  /** Whether one of the peers, or a member of theirs, is about parties that prove no identity. */
  hasUnauthenticated(peers: readonly RulePeer[]): boolean {
    return peers.some((peer) =>
      isSegmentRef(peer)
        ? this.#expanded.get(peer.memberOf)?.hasUnauthenticated === true
        : peer.unauthenticated === true,
    );
  }

  #find(name: string, at: { resource: Resource; path: readonly PropertyKey[] }): Expanded | null {
    const expanded = this.#expanded.get(name);
    if (expanded !== undefined) return expanded;
    // A segment that is not expanded yet closes a circle, which was reported.
    if (this.#segments.has(name)) return null;
    this.#problems.error(at, `there is no Segment "${name}"`, () => {
      const nearest = nearestName(name, this.#segments.keys());
      return nearest === undefined ? 'apply the segment too, or first' : `did you mean "${nearest}"?`;
    });
    return null;
  }

  #expandSegment(segment: Segment): Expanded {
    const peers = this.expand(segment.spec.members, { resource: segment, path: ['spec', 'members'] });
    const refs = peers.filter(isSegmentRef);
    const written = peers.filter((peer): peer is PeerMatch => !isSegmentRef(peer));
    // Merged again without the names of inner segments: users asked about the outer one.
    const matches = mergePeerMatches(written.map(withoutOrigin));
    const isLarge = refs.length > 0;
    const values = matches.reduce((sum, match) => sum + valuesOf(match), isLarge ? maxListed + 1 : 0);
    return { segment, members: [...refs, ...matches], values, hasUnauthenticated: this.hasUnauthenticated(peers) };
  }
}

/** What was compiled last of each document, so that an unchanged segment stays the same object. */
const compiled = new WeakMap<Segment, { readonly text: string; readonly segment: CompiledSegment }>();

function compiledOnce(document: Segment, segment: CompiledSegment): CompiledSegment {
  const text = JSON.stringify(segment);
  const known = compiled.get(document);
  if (known?.text === text) return known.segment;
  compiled.set(document, { text, segment });
  return segment;
}

function valuesOf(match: PeerMatch): number {
  const counts = Object.values(match).map((value) => (typeof value === 'object' ? Object.keys(value).length : 1));
  return counts.reduce((sum, count) => sum + count, 0);
}

function memberAt(resource: Segment, member: number): { resource: Resource; path: readonly PropertyKey[] } {
  return { resource, path: ['spec', 'members', member, 'segment'] };
}
