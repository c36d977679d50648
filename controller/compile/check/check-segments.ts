import { SegmentExpansion } from '../segment-expansion.js';
import { ProblemList } from '../../resources/parse/problem-list.js';
import type { Resource } from '../../resources/kinds/resource.js';
import { mayBeUnregistered } from '../../resources/match/peer-fields.js';
import { mayMatchRegistered, type RegisteredParty } from '../../resources/match/registered-match.js';
import type { Workload } from '../../resources/kinds/workload.js';

/**
 * Warns of segments that no workload is in: rules about them do nothing. A segment with addresses, or with those who
 * prove nothing, may have members that are not registered, so it is never warned of. Labels of namespaces are not looked
 * at: they rarely leave nobody.
 */
export function checkSegments(resources: readonly Resource[], problems: ProblemList): void {
  const segments = resources.filter((resource) => resource.kind === 'Segment');
  if (segments.length === 0) return;
  const workloads = resources.filter((resource) => resource.kind === 'Workload');
  // What is wrong with the segments themselves was reported when the rules were compiled.
  const expansion = new SegmentExpansion({ resources, problems: new ProblemList({ locations: new Map() }) });
  for (const segment of segments) {
    const path = ['spec', 'members'];
    const matches = expansion.expand(segment.spec.members, { resource: segment, path });
    const isMember = mayMatchRegistered(matches);
    if (matches.some(mayBeUnregistered) || workloads.some((workload) => isMember(registered(workload)))) continue;
    const message = 'no workload is in this segment';
    problems.warn({ resource: segment, path }, message, 'rules about it do nothing until there is one');
  }
}

function registered({ metadata, spec }: Workload): RegisteredParty {
  const { namespace, name, labels = {} } = metadata;
  return { namespace, serviceAccount: spec.serviceAccount, workload: { name, labels, node: spec.node ?? null } };
}
