import { parseCidr } from '../../../shared/address.js';
import { NetworkSet } from '../../../shared/network-set.js';
import { NamePatterns } from '../../../shared/policy/prepared/name-patterns.js';
import { defaultMesh } from '../../resources/kinds/mesh.js';
import {
  asksForDryRun,
  dryRunAnnotation,
  parsePortText,
  type AuthorizationPolicy,
} from '../../resources/kinds/authorization-policy.js';
import type { AdminNetworkPolicy, BaselineAdminNetworkPolicy } from '../../resources/kinds/admin-network-policy.js';
import type { ClusterNetworkPolicy } from '../../resources/kinds/cluster-network-policy.js';
import type { ClusterSubject } from '../../resources/kinds/cluster-policy-parts.js';
import type { NetworkPolicy, NetworkPolicySelector } from '../../resources/kinds/network-policy.js';
import type { ProblemList } from '../../resources/parse/problem-list.js';
import type { Resource } from '../../resources/kinds/resource.js';
import { isOfOtherMesh, whyNothingFits, type NameOf } from './name-patterns.js';
import { contradiction } from './selector-contradiction.js';

/**
 * Warns of policies that are right in form and match nothing: names that no certificate can have, lists that take each
 * other away, selectors that contradict themselves, and documents or annotations without effect. An ALLOW policy of this
 * kind refuses every connection, and a DENY policy refuses none. `trustDomain`: of the mesh; undefined: not known.
 */
export function checkEmptyMatches(
  resources: readonly Resource[],
  problems: ProblemList,
  trustDomain: string | undefined,
): void {
  const mesh = resources.find((resource) => resource.kind === 'Mesh')?.spec ?? defaultMesh;
  for (const resource of resources) {
    if (resource.kind === 'AuthorizationPolicy') checkAuthorizationPolicy(resource, problems, trustDomain);
    else if (asksForDryRun(resource.metadata.annotations) === true) {
      const path = ['metadata', 'annotations', dryRunAnnotation];
      const message = 'counts for AuthorizationPolicies only: this document is enforced';
      problems.warn({ resource, path }, message, 'remove it, and try the document with culvert diff');
    }
    if (resource.kind === 'NetworkPolicy') checkNetworkPolicy(resource, problems);
    if (isClusterPolicy(resource)) checkClusterPolicy(resource, problems);
    if (resource.kind !== 'PeerAuthentication' || resource.metadata.namespace !== mesh.rootNamespace) continue;
    if (Object.keys(resource.spec.selector?.matchLabels ?? {}).length === 0) continue;
    const message = `is ignored: in the root namespace ${mesh.rootNamespace} a PeerAuthentication is about the whole mesh`;
    const hint = 'write it in the namespace of its workloads, or without a selector';
    problems.warn({ resource, path: ['spec', 'selector'] }, message, hint);
  }
}

const nameFields = [
  ['principals', 'principal'],
  ['notPrincipals', 'principal'],
  ['namespaces', 'namespace'],
  ['notNamespaces', 'namespace'],
  ['trustDomains', 'trustDomain'],
  ['notTrustDomains', 'trustDomain'],
] as const satisfies readonly (readonly [field: string, of: NameOf])[];

const conditionNames: ReadonlyMap<string, NameOf> = new Map([
  ['source.principal', 'principal'],
  ['source.namespace', 'namespace'],
  ['source.trustDomain', 'trustDomain'],
]);

function checkAuthorizationPolicy(
  policy: AuthorizationPolicy,
  problems: ProblemList,
  trustDomain: string | undefined,
): void {
  const whyNone = (text: string, of: NameOf): ReturnType<typeof whyNothingFits> => {
    const found = whyNothingFits(text, of);
    if (found !== null || trustDomain === undefined || !isOfOtherMesh(text, of, trustDomain)) return found;
    const hint = `write "cluster.local" or "${trustDomain}"`;
    return { why: `certificates of this mesh have the trust domain ${trustDomain}`, hint };
  };
  const checkNames = (names: readonly string[] | undefined, of: NameOf, path: readonly PropertyKey[]): void => {
    for (const [index, text] of (names ?? []).entries()) {
      const found = whyNone(text, of);
      if (found === null) continue;
      problems.warn(
        { resource: policy, path: [...path, index] },
        `"${text}" matches nothing: ${found.why}`,
        found.hint,
      );
    }
  };
  const checkLists = (lists: Lists, path: readonly PropertyKey[], field: string): void => {
    if (!isTakenAway(lists)) return;
    const message = `matches nothing: ${lists.notName} takes away all that ${field} names`;
    problems.warn({ resource: policy, path: [...path, lists.notName] }, message, 'leave one of the two out');
  };
  for (const [ruleIndex, rule] of (policy.spec.rules ?? []).entries()) {
    const path = ['spec', 'rules', ruleIndex];
    for (const [index, { source }] of (rule.from ?? []).entries()) {
      const at = [...path, 'from', index, 'source'];
      for (const [field, of] of nameFields) checkNames(source[field], of, [...at, field]);
      for (const field of ['principals', 'namespaces', 'trustDomains', 'serviceAccounts', 'ipBlocks'] as const) {
        const notName = `not${field.charAt(0).toUpperCase()}${field.slice(1)}` as keyof typeof source;
        checkLists(
          { values: source[field], notValues: source[notName], notName, isAddress: field === 'ipBlocks' },
          at,
          field,
        );
      }
    }
    for (const [index, { operation }] of (rule.to ?? []).entries()) {
      const [values, notValues] = [operation.ports, operation.notPorts].map((ports) =>
        ports?.map((port) => String(parsePortText(port))),
      );
      checkLists(
        { values, notValues, notName: 'notPorts', isAddress: false },
        [...path, 'to', index, 'operation'],
        'ports',
      );
    }
    for (const [index, { key, values, notValues }] of (rule.when ?? []).entries()) {
      const at = [...path, 'when', index];
      const of = conditionNames.get(key);
      if (of !== undefined) checkNames(values, of, [...at, 'values']);
      if (of !== undefined) checkNames(notValues, of, [...at, 'notValues']);
      checkLists({ values, notValues, notName: 'notValues', isAddress: key.endsWith('.ip') }, at, 'values');
    }
  }
}

type Lists = {
  readonly values: readonly string[] | undefined;
  readonly notValues: readonly string[] | undefined;
  readonly notName: string;
  readonly isAddress: boolean;
};

/** Whether each value is within one of those that must not match. */
function isTakenAway({ values, notValues = [], isAddress }: Lists): boolean {
  if (values === undefined || notValues.length === 0) return values?.length === 0;
  if (isAddress) {
    const taken = new NetworkSet({ networks: notValues.map(parseCidr).filter((cidr) => cidr !== undefined) });
    return values.map(parseCidr).every((cidr) => cidr !== undefined && taken.contains(cidr));
  }
  // Of a pattern, all that it matches begins or ends as it does itself.
  const [written, patterns] = [new Set(notValues), new NamePatterns({ values: notValues })];
  return values.every((value) => written.has(value) || patterns.has(value));
}

type ClusterPolicy = ClusterNetworkPolicy | AdminNetworkPolicy | BaselineAdminNetworkPolicy;

function isClusterPolicy(resource: Resource): resource is ClusterPolicy {
  const { kind } = resource;
  return kind === 'ClusterNetworkPolicy' || kind === 'AdminNetworkPolicy' || kind === 'BaselineAdminNetworkPolicy';
}

function checkClusterPolicy(policy: ClusterPolicy, problems: ProblemList): void {
  const check = ({ namespaces, pods }: ClusterSubject, path: readonly PropertyKey[]): void => {
    checkSelector(policy, namespaces, [...path, 'namespaces'], problems);
    checkSelector(policy, pods?.namespaceSelector, [...path, 'pods', 'namespaceSelector'], problems);
    checkSelector(policy, pods?.podSelector, [...path, 'pods', 'podSelector'], problems);
  };
  const { subject, ingress = [], egress = [] } = policy.spec;
  check(subject, ['spec', 'subject']);
  for (const [index, { from }] of ingress.entries()) {
    for (const [at, peer] of from.entries()) check(peer, ['spec', 'ingress', index, 'from', at]);
  }
  for (const [index, { to }] of egress.entries()) {
    for (const [at, peer] of to.entries()) check(peer, ['spec', 'egress', index, 'to', at]);
  }
}

function checkSelector(
  resource: Resource,
  selector: NetworkPolicySelector | undefined,
  path: readonly PropertyKey[],
  problems: ProblemList,
): void {
  const why = selector === undefined ? null : contradiction(selector);
  if (why !== null) problems.warn({ resource, path }, `selects nothing: ${why}`, 'correct the selector');
}

function checkNetworkPolicy(policy: NetworkPolicy, problems: ProblemList): void {
  const check = (selector: NetworkPolicySelector | undefined, path: readonly PropertyKey[]): void =>
    checkSelector(policy, selector, path, problems);
  const { podSelector, ingress = [], egress = [] } = policy.spec;
  check(podSelector, ['spec', 'podSelector']);
  const rules = [
    ...ingress.map(({ from }, index) => ({ peers: from ?? [], path: ['spec', 'ingress', index, 'from'] })),
    ...egress.map(({ to }, index) => ({ peers: to ?? [], path: ['spec', 'egress', index, 'to'] })),
  ];
  for (const { peers, path } of rules) {
    for (const [index, peer] of peers.entries()) {
      check(peer.podSelector, [...path, index, 'podSelector']);
      check(peer.namespaceSelector, [...path, index, 'namespaceSelector']);
    }
  }
}
