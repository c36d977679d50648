import { isClusterPolicy, rankOf, type ClusterPolicy } from '../compile-cluster-policies.js';
import type { ProblemList } from '../../resources/parse/problem-list.js';
import { formatResourceId, resourceId } from '../../resources/kinds/resource-key.js';
import type { Resource } from '../../resources/kinds/resource.js';

/**
 * Warns about policies of one tier with one priority, since Kubernetes leaves open which of them decides, and about
 * ports of protocols that Culvert does not carry.
 */
export function checkClusterPolicies(resources: readonly Resource[], problems: ProblemList): void {
  const byRank = new Map<string, ClusterPolicy>();
  for (const policy of resources.filter(isClusterPolicy).sort(byId)) {
    const { tier, priority } = rankOf(policy);
    const rank = `${tier} ${priority}`;
    const first = byRank.get(rank);
    if (first === undefined) byRank.set(rank, policy);
    else {
      const message = `has the priority of ${idOf(first)}, and Kubernetes leaves open which of the two decides`;
      problems.warn({ resource: policy, path: ['spec', 'priority'] }, message, 'here the first by kind and name does');
    }
    warnOfProtocols(policy, problems);
  }
}

function idOf(policy: ClusterPolicy): string {
  return formatResourceId(resourceId(policy));
}

function byId(a: ClusterPolicy, b: ClusterPolicy): number {
  return idOf(a) < idOf(b) ? -1 : 1;
}

function warnOfProtocols(policy: ClusterPolicy, problems: ProblemList): void {
  for (const direction of ['ingress', 'egress'] as const) {
    for (const [ruleIndex, rule] of (policy.spec[direction] ?? []).entries()) {
      for (const { path, protocol } of otherProtocols(rule)) {
        const message = `Culvert carries TCP: a rule for ${protocol} means nothing here`;
        const place = { resource: policy, path: ['spec', direction, ruleIndex, ...path] };
        problems.warn(place, message, `it neither accepts nor denies ${protocol}`);
      }
    }
  }
}

type Rule = NonNullable<ClusterPolicy['spec']['ingress'] | ClusterPolicy['spec']['egress']>[number];

function* otherProtocols(rule: Rule): Generator<{ readonly path: readonly PropertyKey[]; readonly protocol: string }> {
  if ('protocols' in rule) {
    for (const [index, { udp, sctp }] of (rule.protocols ?? []).entries()) {
      if (udp !== undefined) yield { path: ['protocols', index, 'udp'], protocol: 'UDP' };
      if (sctp !== undefined) yield { path: ['protocols', index, 'sctp'], protocol: 'SCTP' };
    }
  }
  if ('ports' in rule) {
    for (const [index, { portNumber, portRange }] of (rule.ports ?? []).entries()) {
      const protocol = (portNumber ?? portRange)?.protocol ?? 'TCP';
      if (protocol !== 'TCP') yield { path: ['ports', index], protocol };
    }
  }
}
