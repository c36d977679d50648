import { SegmentExpansion } from '../segment-expansion.js';
import { isSegmentRef, type PeerMatch } from '../../../shared/policy/snapshot.js';
import { ProblemList } from '../../resources/parse/problem-list.js';
import type { Resource } from '../../resources/kinds/resource.js';
import { mayBeUnregistered } from '../../resources/match/peer-fields.js';
import { mayMatchRegistered, type RegisteredParty } from '../../resources/match/registered-match.js';
import type { Registered, RegisteredWorkload } from './registered.js';

/**
 * Warns about segments without workloads: rules about them have no effect. A segment with addresses or unauthenticated
 * sources may have unregistered members, so it is never reported. Namespace labels are ignored: they rarely leave a
 * segment empty.
 */
export function checkSegments(resources: readonly Resource[], registered: Registered, problems: ProblemList): void {
  const segments = resources.filter((resource) => resource.kind === 'Segment');
  if (segments.length === 0) return;
  // Errors in the segments themselves were reported when the rules were compiled.
  const expansion = new SegmentExpansion({ resources, problems: new ProblemList({ locations: new Map() }) });
  const filled = new Set<string>();
  // Inner segments come first, so each is looked at once, however many contain it.
  for (const { segment, members } of expansion.all) {
    const matches = members.filter((peer): peer is PeerMatch => !isSegmentRef(peer));
    const isFilled =
      members.some((peer) => isSegmentRef(peer) && filled.has(peer.memberOf)) ||
      matches.some(mayBeUnregistered) ||
      hasMember(registered, matches);
    if (isFilled) filled.add(segment.metadata.name);
  }
  for (const segment of segments) {
    if (filled.has(segment.metadata.name)) continue;
    const message = 'no workload is in this segment';
    const place = { resource: segment, path: ['spec', 'members'] };
    problems.warn(place, message, 'rules about it do nothing until there is one');
  }
}

/** Looks at the namespaces that the matches are within, where all of them are. */
function hasMember(registered: Registered, matches: readonly PeerMatch[]): boolean {
  if (matches.length === 0) return false;
  const isMember = mayMatchRegistered(matches);
  const namespaces = matches.map((match) => match.namespaces);
  const within = namespaces.every((some) => some !== undefined) ? [...new Set(namespaces.flat())] : null;
  const candidates = within?.map((namespace) => registered.workloadsIn(namespace)) ?? [registered.workloads()];
  for (const workloads of candidates) for (const one of workloads) if (isMember(partyOf(one))) return true;
  return false;
}

function partyOf({ namespace, name, labels, serviceAccount, node }: RegisteredWorkload): RegisteredParty {
  return { namespace, serviceAccount, workload: { name, labels, node } };
}
