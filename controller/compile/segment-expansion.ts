import { nearestName } from '../../shared/nearest-name.js';
import { toPeerMatch, type Peer } from '../resources/kinds/peer.js';
import type { ProblemList } from '../resources/parse/problem-list.js';
import type { Resource } from '../resources/kinds/resource.js';
import type { Segment } from '../resources/kinds/segment.js';
import { mergePeerMatches, withoutOrigin } from './merge-peer-matches.js';
import { ServicePeers } from './service-peers.js';
import type { PeerMatch } from '../../shared/policy/snapshot.js';

/** Deeper nesting is taken for a mistake; it would also make the recursion here deep. */
const maxNesting = 32;

/**
 * Replaces segments by their members, and services by their endpoints. Missing segments and segments that contain
 * themselves are reported to `problems`; their members are then missing, so do not use a result with errors.
 */
export class SegmentExpansion {
  readonly #segments: ReadonlyMap<string, Segment>;
  readonly #services: ServicePeers;
  readonly #problems: ProblemList;
  readonly #expanded = new Map<string, readonly PeerMatch[]>();
  readonly #open: string[] = [];

  constructor({ resources, problems }: { resources: readonly Resource[]; problems: ProblemList }) {
    const segments = resources.filter((resource) => resource.kind === 'Segment');
    this.#services = new ServicePeers({ resources });
    this.#segments = new Map(segments.map((segment) => [segment.metadata.name, segment]));
    this.#problems = problems;
    for (const segment of segments) this.#expandSegment(segment);
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
    const segment = this.#segments.get(name);
    if (segment === undefined) {
      this.#problems.error(at, `there is no Segment "${name}"`, () => {
        const nearest = nearestName(name, this.#segments.keys());
        return nearest === undefined ? 'apply the segment too, or first' : `did you mean "${nearest}"?`;
      });
      return [];
    }
    const start = this.#open.indexOf(name);
    if (start >= 0) {
      const circle = [...this.#open.slice(start), name].join(' → ');
      this.#problems.error(at, `the segment contains itself: ${circle}`, 'remove one of these members');
      return [];
    }
    if (this.#open.length >= maxNesting) {
      this.#problems.error(at, `segments are nested more than ${maxNesting} deep`, 'name the members directly');
      return [];
    }
    return this.#expandSegment(segment);
  }

  #expandSegment(segment: Segment): readonly PeerMatch[] {
    const { name } = segment.metadata;
    const known = this.#expanded.get(name);
    if (known !== undefined) return known;
    this.#open.push(name);
    const matches = this.expand(segment.spec.members, { resource: segment, path: ['spec', 'members'] });
    this.#open.pop();
    // Merged again without the names of inner segments: users asked about the outer one.
    const members = mergePeerMatches(matches.map(withoutOrigin));
    this.#expanded.set(name, members);
    return members;
  }
}
