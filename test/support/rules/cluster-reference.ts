import * as fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import type { Connection, Party } from '../../../shared/policy/connection.js';
import type {
  ClusterPolicyRule,
  CompiledClusterPolicy,
  LabelRequirement,
  NetworkPolicyPeer,
  NetworkPolicyRule,
  Snapshot,
} from '../../../shared/policy/snapshot.js';

/** Random cluster policies of the small world of `policy-arbitraries`. */
const requirement: fc.Arbitrary<LabelRequirement> = fc.record({
  key: fc.constantFrom('app', 'tier'),
  operator: fc.constantFrom('In', 'NotIn', 'Exists', 'DoesNotExist'),
  values: fc.constantFrom(['1'], ['2'], ['1', '2']),
});
const requirements = fc.array(requirement, { maxLength: 1 });
const namespaceRequirements: fc.Arbitrary<readonly LabelRequirement[]> = fc.constantFrom<LabelRequirement[]>(
  [],
  [{ key: 'team', operator: 'In', values: ['red'] }],
  [{ key: 'kubernetes.io/metadata.name', operator: 'In', values: ['b'] }],
);
const pods = fc.record({ namespaceSelector: namespaceRequirements, podSelector: requirements });
const peer: fc.Arbitrary<NetworkPolicyPeer> = fc.oneof(
  { weight: 2, arbitrary: pods.map((selectors) => ({ kind: 'pods' as const, ...selectors })) },
  fc.constantFrom('10.0.0.0/8', '10.128.0.0/9', '192.0.2.0/24', '0.0.0.0/0').map((cidr) => ({
    kind: 'block' as const,
    cidr,
    except: [],
  })),
);
const rules: fc.Arbitrary<readonly ClusterPolicyRule[]> = fc.array(
  fc.record({
    action: fc.constantFrom('accept', 'deny', 'pass'),
    peers: fc.array(peer, { minLength: 1, maxLength: 2 }),
    ports: fc.array(fc.constantFrom([1, 3] as const, [4, 5] as const, 'http'), { maxLength: 1 }),
  }),
  { maxLength: 2 },
);
const policy = fc.record({
  tier: fc.constantFrom('platform', 'baseline'),
  subject: pods,
  ingress: rules,
  egress: rules,
});

export const clusterPolicies: fc.Arbitrary<readonly CompiledClusterPolicy[]> = fc
  .array(policy, { minLength: 1, maxLength: 4 })
  .map((parts) =>
    parts
      .map((part, priority) => ({ kind: 'ClusterNetworkPolicy' as const, name: `c${priority}`, priority, ...part }))
      .sort((a, b) => (a.tier === b.tier ? a.priority - b.priority : a.tier === 'platform' ? -1 : 1)),
  );

type Direction = 'ingress' | 'egress';

/**
 * What cluster policies and NetworkPolicies say of a connection, as the API's text has it and without Culvert's tiers:
 * each direction goes through Admin, NetworkPolicy and Baseline until one decides, and a connection needs both
 * directions. Null: they leave the decision to others.
 */
export function referenceClusterVerdict(snapshot: Snapshot, connection: Connection): 'allow' | 'deny' | null {
  const [egress, ingress] = (['egress', 'ingress'] as const).map((direction) =>
    directionVerdict(snapshot, connection, direction),
  );
  if (egress === 'deny' || ingress === 'deny') return 'deny';
  if (ingress === 'accept') return 'allow';
  return egress === 'accept' && connection.destination.workload === null ? 'allow' : null;
}

function directionVerdict(snapshot: Snapshot, connection: Connection, direction: Direction): 'accept' | 'deny' | null {
  const admin = inTier(snapshot, connection, direction, 'platform');
  if (admin === 'accept' || admin === 'deny') return admin;
  const home = subjectOf(connection, direction);
  const isolating = snapshot.networkPolicies.filter(
    (each) =>
      each[direction] !== null &&
      home?.namespace === each.namespace &&
      home !== null &&
      meets(each.podSelector, home.labels),
  );
  if (isolating.length > 0) {
    const isAllowed = isolating.some(({ namespace, ...each }) =>
      each[direction]?.some((rule) => ruleMatches(rule, snapshot, connection, direction, false, namespace)),
    );
    return isAllowed ? 'accept' : 'deny';
  }
  const baseline = inTier(snapshot, connection, direction, 'baseline');
  return baseline === 'pass' ? null : baseline;
}

function inTier(snapshot: Snapshot, connection: Connection, direction: Direction, tier: string) {
  const home = subjectOf(connection, direction);
  if (home === null) return null;
  for (const each of snapshot.clusterPolicies ?? []) {
    if (each.tier !== tier || !podMatches(each.subject, snapshot, home)) continue;
    for (const rule of each[direction]) {
      if (ruleMatches(rule, snapshot, connection, direction, rule.action === 'deny', '')) return rule.action;
    }
  }
  return null;
}

/** A source counts as what is registered for its address, also without a proof. */
function subjectOf({ source, destination }: Connection, direction: Direction): Party['workload'] {
  return direction === 'egress' ? source.workload : destination.workload;
}

/** `isTrusting`: a source is also the workload that it only claims to be. */
function ruleMatches(
  { peers, ports }: NetworkPolicyRule,
  snapshot: Snapshot,
  { source, destination, port }: Connection,
  direction: Direction,
  isTrusting: boolean,
  own: string,
): boolean {
  const names = destination.workload?.ports ?? {};
  const isPort = (entry: (typeof ports)[number]): boolean =>
    typeof entry === 'string' ? names[entry] === port : entry[0] <= port && port <= entry[1];
  if (ports.length > 0 && !ports.some(isPort)) return false;
  const other = direction === 'egress' ? destination : source;
  const isKnown = direction === 'egress' || isTrusting || source.identity !== null;
  return peers.length === 0 || peers.some((each) => peerMatches(each, snapshot, other, isKnown, own));
}

function peerMatches(each: NetworkPolicyPeer, snapshot: Snapshot, other: Party, isKnown: boolean, own: string) {
  if (each.kind === 'block') {
    const isIn = (cidr: string): boolean => {
      const [network, bits] = ipaddr.parseCIDR(cidr.includes('/') ? cidr : `${cidr}/32`);
      const address = ipaddr.parse(other.ip);
      return address.kind() === network.kind() && address.match(network, bits);
    };
    return isIn(each.cidr) && !each.except.some(isIn);
  }
  const { workload } = other;
  if (workload === null || !isKnown) return false;
  const { namespaceSelector, podSelector } = each;
  if (namespaceSelector === null) return workload.namespace === own && meets(podSelector, workload.labels);
  return podMatches({ namespaceSelector, podSelector }, snapshot, workload);
}

function podMatches(
  { namespaceSelector, podSelector }: CompiledClusterPolicy['subject'],
  { namespaces }: Snapshot,
  { namespace, labels }: NonNullable<Party['workload']>,
): boolean {
  const ofNamespace = { ...namespaces[namespace], 'kubernetes.io/metadata.name': namespace };
  return meets(namespaceSelector, ofNamespace) && meets(podSelector, labels);
}

function meets(wanted: readonly LabelRequirement[], labels: Readonly<Record<string, string>>): boolean {
  return wanted.every(({ key, operator, values }) => {
    const value = labels[key];
    if (operator === 'Exists') return value !== undefined;
    if (operator === 'DoesNotExist') return value === undefined;
    const isAmong = value !== undefined && values.includes(value);
    return operator === 'In' ? isAmong : !isAmong;
  });
}
