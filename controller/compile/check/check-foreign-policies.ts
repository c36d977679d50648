import type { NetworkPolicy } from '../../resources/kinds/network-policy.js';
import type { PeerAuthentication } from '../../resources/kinds/peer-authentication.js';
import type { ProblemList } from '../../resources/parse/problem-list.js';
import type { Resource } from '../../resources/kinds/resource.js';
import { carries, type Registered, type RegisteredWorkload } from './registered.js';

/**
 * Checks what documents alone do not decide as in Istio and Kubernetes: several PeerAuthentications of one scope
 * (errors if it matters), and allowances for protocols that Culvert does not carry (warnings).
 */
export function checkForeignPolicies(
  resources: readonly Resource[],
  registered: Registered,
  problems: ProblemList,
): void {
  const policies = resources.filter((resource) => resource.kind === 'PeerAuthentication');
  if (policies.length > 1) checkPeerAuthentications(policies, registered, problems);
  for (const resource of resources) if (resource.kind === 'NetworkPolicy') warnOfProtocols(resource, problems);
}

function checkPeerAuthentications(
  policies: readonly PeerAuthentication[],
  registered: Registered,
  problems: ProblemList,
): void {
  const sorted = [...policies].sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
  const wide = new Map<string, PeerAuthentication>();
  for (const policy of sorted.filter((candidate) => !isSelective(candidate))) {
    const { namespace } = policy.metadata;
    const first = wide.get(namespace);
    if (first === undefined) wide.set(namespace, policy);
    else refuse(policy, first, `everything in namespace ${namespace}`, problems);
  }
  const selective = new Map<string, PeerAuthentication[]>();
  for (const policy of sorted.filter(isSelective)) {
    const { namespace } = policy.metadata;
    const rivals = selective.get(namespace);
    if (rivals === undefined) selective.set(namespace, [policy]);
    else rivals.push(policy);
  }
  for (const [namespace, rivals] of selective) {
    if (rivals.length > 1) checkSelected(rivals, registered.workloadsIn(namespace), problems);
  }
}

/** Refuses policies that disagree about one of these workloads, all of one namespace. `policies`: of it too, by name. */
export function checkSelected(
  policies: readonly PeerAuthentication[],
  workloads: Iterable<RegisteredWorkload>,
  problems: ProblemList,
): void {
  const reported = new Set<PeerAuthentication>();
  const candidatesFor = byLabel(policies.filter(isSelective));
  for (const workload of workloads) {
    const [first, ...others] = candidatesFor(workload).filter((policy) => selects(policy, workload));
    const other = others.find((candidate) => modesOf(candidate) !== (first === undefined ? '' : modesOf(first)));
    if (first === undefined || other === undefined || reported.has(other)) continue;
    reported.add(other);
    refuse(other, first, `Workload/${workload.namespace}/${workload.name}`, problems);
  }
}

/** Finds the policies that may select a workload, in their order, without a look at each: by the rarest label of each. */
function byLabel(policies: readonly PeerAuthentication[]): (workload: RegisteredWorkload) => PeerAuthentication[] {
  const pairsOf = ({ spec }: PeerAuthentication): string[] =>
    Object.entries(spec.selector?.matchLabels ?? {}).map(keyOf);
  const counts = new Map<string, number>();
  for (const key of policies.flatMap(pairsOf)) counts.set(key, (counts.get(key) ?? 0) + 1);
  const indexed = new Map<string, number[]>();
  for (const [index, policy] of policies.entries()) {
    const [rarest = ''] = pairsOf(policy).toSorted((a, b) => (counts.get(a) ?? 0) - (counts.get(b) ?? 0));
    const those = indexed.get(rarest);
    if (those === undefined) indexed.set(rarest, [index]);
    else those.push(index);
  }
  return ({ labels }) =>
    Object.entries(labels)
      .flatMap((pair) => indexed.get(keyOf(pair)) ?? [])
      .toSorted((a, b) => a - b)
      .flatMap((index) => policies[index] ?? []);
}

function keyOf([name, value]: readonly [string, string]): string {
  return `${name}=${value}`;
}

function refuse(policy: PeerAuthentication, first: PeerAuthentication, what: string, problems: ProblemList): void {
  const { namespace, name } = first.metadata;
  const message = `it and PeerAuthentication/${namespace}/${name} are both about ${what}`;
  problems.error({ resource: policy, path: ['spec'] }, message, 'Istio goes by the older one; keep one of the two');
}

function isSelective({ spec }: PeerAuthentication): boolean {
  return Object.keys(spec.selector?.matchLabels ?? {}).length > 0;
}

function selects({ metadata, spec }: PeerAuthentication, workload: RegisteredWorkload): boolean {
  return metadata.namespace === workload.namespace && carries(workload, spec.selector?.matchLabels ?? {});
}

/** A policy's modes as text, independent of the order in which they are written. */
function modesOf({ spec }: PeerAuthentication): string {
  const ports = Object.entries(spec.portLevelMtls ?? {}).map(([port, { mode }]) => `${port} ${mode ?? 'UNSET'}`);
  return [spec.mtls?.mode ?? 'UNSET', ...ports.sort()].join(', ');
}

function warnOfProtocols(policy: NetworkPolicy, problems: ProblemList): void {
  for (const direction of ['ingress', 'egress'] as const) {
    for (const [ruleIndex, { ports = [] }] of (policy.spec[direction] ?? []).entries()) {
      for (const [portIndex, { protocol }] of ports.entries()) {
        if (protocol === 'TCP') continue;
        const path = ['spec', direction, ruleIndex, 'ports', portIndex, 'protocol'];
        const message = `Culvert carries TCP: an allowance for ${protocol} means nothing here`;
        problems.warn({ resource: policy, path }, message, `it neither allows nor refuses ${protocol}`);
      }
    }
  }
}
