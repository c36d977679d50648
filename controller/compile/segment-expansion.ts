import { nearestName } from '../../shared/nearest-name.js';
import { toPeerMatch, type Peer } from '../resources/kinds/peer.js';
import type { ProblemList } from '../resources/parse/problem-list.js';
import type { Resource } from '../resources/kinds/resource.js';
import type { Segment } from '../resources/kinds/segment.js';
import { mergePeerMatches, withoutOrigin } from './merge-peer-matches.js';
import { segmentOrder } from './segment-order.js';
import { ServicePeers } from './service-peers.js';
import type { PeerMatch } from '../../shared/policy/snapshot.js';

/** Deeper nesting is taken for a mistake, and it makes a snapshot grow faster than the text. */
const maxNesting = 32;

/** What a segment stands for, and how many segments are inside each other in it: 1 when it names none. */
type Expanded = { readonly members: readonly PeerMatch[]; readonly nesting: number };

/**
 * Replaces segments by their members, and services by their endpoints. Missing segments, segments that contain
 * themselves and segments that are nested too deeply are reported to `problems`; their members are then missing, so do
 * not use a result with errors. What is reported does not depend on the order of documents.
 */
export class SegmentExpansion {
  readonly #segments: ReadonlyMap<string, Segment>;
  readonly #services: ServicePeers;
  readonly #problems: ProblemList;
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

  /** The matches for a list of peers. `resource` and `path`: where the list is written. */
  expand(peers: readonly Peer[], at: { resource: Resource; path: readonly PropertyKey[] }): PeerMatch[] {
    const matches = peers.flatMap((peer, index) => {
      if (peer.service !== undefined) return this.#services.matchesOf(peer.service);
      if (peer.segment === undefined) return [toPeerMatch(peer)];
      const path = [...at.path, index, 'segment'];
      const members = this.#membersOf(peer.segment, { resource: at.resource, path });
      const { segment } = peer;
      return members.map((match) => ({ ...match, segment }));
    });
    return mergePeerMatches(matches);
  }

  #membersOf(name: string, at: { resource: Resource; path: readonly PropertyKey[] }): readonly PeerMatch[] {
    const expanded = this.#expanded.get(name);
    if (expanded !== undefined) return expanded.members;
    // A segment that is not expanded yet closes a circle, which was reported.
    if (this.#segments.has(name)) return [];
    this.#problems.error(at, `there is no Segment "${name}"`, () => {
      const nearest = nearestName(name, this.#segments.keys());
      return nearest === undefined ? 'apply the segment too, or first' : `did you mean "${nearest}"?`;
    });
    return [];
  }

  #expandSegment(segment: Segment): Expanded {
    const nesting = this.#nestingOf(segment);
    // Deeper ones were reported, and what is around them would only grow.
    if (nesting > maxNesting) return { members: [], nesting };
    const matches = this.expand(segment.spec.members, { resource: segment, path: ['spec', 'members'] });
    // Merged again without the names of inner segments: users asked about the outer one.
    return { members: mergePeerMatches(matches.map(withoutOrigin)), nesting };
  }

  #nestingOf(segment: Segment): number {
    let nesting = 1;
    for (const [index, { segment: inner = '' }] of segment.spec.members.entries()) {
      const around = (this.#expanded.get(inner)?.nesting ?? 0) + 1;
      nesting = Math.max(nesting, around);
      if (around !== maxNesting + 1) continue;
      const message = `segments are nested more than ${maxNesting} deep`;
      this.#problems.error(memberAt(segment, index), message, 'name the members directly');
    }
    return nesting;
  }
}

function memberAt(resource: Segment, member: number): { resource: Resource; path: readonly PropertyKey[] } {
  return { resource, path: ['spec', 'members', member, 'segment'] };
}
