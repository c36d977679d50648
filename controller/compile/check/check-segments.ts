import { SegmentExpansion } from '../segment-expansion.js';
import type { PeerMatch } from '../../../shared/policy/snapshot.js';
import { ProblemList } from '../../resources/parse/problem-list.js';
import type { Resource } from '../../resources/kinds/resource.js';
import type { Workload } from '../../resources/kinds/workload.js';

/**
 * Warns of segments that no workload is in: rules about them do nothing. A segment with addresses, or with those who
 * prove nothing, may have members that are not registered, so it is never warned of.
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
    if (matches.some((match) => mayBeUnregistered(match) || workloads.some((one) => isIn(one, match)))) continue;
    const message = 'no workload is in this segment';
    problems.warn({ resource: segment, path }, message, 'rules about it do nothing until there is one');
  }
}

function mayBeUnregistered(match: PeerMatch): boolean {
  return match.cidrs !== undefined || match.external === true || match.unauthenticated === true;
}

/** Labels of namespaces are not looked at: they rarely leave nobody. */
function isIn({ metadata, spec }: Workload, match: PeerMatch): boolean {
  const { namespace, name, labels = {} } = metadata;
  return (
    (match.namespaces?.includes(namespace) ?? true) &&
    (match.workloads?.includes(`${namespace}/${name}`) ?? true) &&
    (match.serviceAccounts?.includes(`${namespace}/${spec.serviceAccount}`) ?? true) &&
    (match.nodes?.includes(spec.node ?? '') ?? true) &&
    Object.entries(match.labels ?? {}).every(
      ([label, value]) => Object.hasOwn(labels, label) && labels[label] === value,
    )
  );
}
