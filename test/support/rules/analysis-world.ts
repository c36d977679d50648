import * as fc from 'fast-check';
import { externalParty, workloadParty, type MeshParty } from '../../../controller/analysis/pairs/mesh-party.js';
import type { RuleSet } from '../../../controller/analysis/pairs/rule-set.js';
import type {
  CompiledNetworkPolicy,
  CompiledPeerAuthentication,
  LabelRequirement,
  NetworkPolicyPeer,
  PeerMatch,
  Snapshot,
} from '../../../shared/policy/snapshot.js';
import type { WorkloadEntry } from '../../../shared/routing/registry-entry.js';
import { clusterPolicies } from './cluster-reference.js';
import { workloadEntry } from './analysis-fixture.js';
import { ip, snapshotOf, trustDomain } from './policy-fixture.js';
import { nodeNamed } from '../routing/names.js';

/** A small random world for the property tests: rules and workloads meet often. Times are 0 to 3, ports 1 to 9. */
const namespaces = ['a', 'b'];
const names = ['x', 'y'];
const fullNames = namespaces.flatMap((namespace) => names.map((name) => `${namespace}/${name}`));
const cidrs = ['10.0.0.0/8', '10.0.0.0/9', '10.128.0.0/9', '10.0.0.1/32', '192.0.2.0/24', '0.0.0.0/0', 'fd00::/8'];
const outsideAddresses = ['10.0.0.1', '10.200.0.1', '192.0.2.7', '203.0.113.9', 'fd00::1', '2001:db8::1'].map(ip);

const some = <T>(values: readonly T[]) => fc.subarray([...values], { minLength: 1 });
const labels = fc.dictionary(fc.constantFrom('app', 'tier'), fc.constantFrom('1', '2'), { minKeys: 1, maxKeys: 2 });
const someLabels = fc.oneof(labels, fc.constant({}));
const optional = <T extends Record<string, fc.Arbitrary<unknown>>>(model: T) => fc.record(model, { requiredKeys: [] });
const mostly = <T>(usual: T, other: fc.Arbitrary<T>) =>
  fc.oneof({ arbitrary: fc.constant(usual), weight: 4 }, { arbitrary: other, weight: 1 });

const peerMatch: fc.Arbitrary<PeerMatch> = fc.oneof(
  { arbitrary: optional({ namespaces: some(namespaces), serviceAccounts: some(fullNames) }), weight: 3 },
  { arbitrary: optional({ labels, workloads: some(fullNames), nodes: some(['n1', 'n2']) }), weight: 2 },
  {
    arbitrary: fc.record({ cidrs: some(cidrs), exceptCidrs: some(cidrs.slice(0, 5)) }, { requiredKeys: ['cidrs'] }),
    weight: 2,
  },
  fc.record({ namespaceLabels: labels }),
  fc.constant({ external: true } as const),
  fc.constant({ unauthenticated: true } as const),
);
const portRange = fc
  .tuple(fc.integer({ min: 1, max: 7 }), fc.integer({ min: 0, max: 2 }))
  .map(([first, more]) => [first, first + more] as const);
/** A range, or the name of a port. */
const rulePort = fc.oneof({ weight: 4, arbitrary: portRange }, fc.constantFrom('http', 'db'));
const peers = fc.array(peerMatch, { maxLength: 2 });
const rule = fc.record({
  tier: fc.constantFrom('platform', 'team', 'baseline'),
  action: fc.constantFrom('allow', 'deny', 'pass'),
  mode: mostly('enforce', fc.constant('audit')),
  from: peers,
  to: peers,
  ports: fc.array(rulePort, { maxLength: 2 }),
  rollout: mostly(100, fc.constantFrom(0, 50)),
  validFromMs: mostly(null, fc.constantFrom(1, 2)),
  expiresAtMs: mostly(null, fc.constantFrom(1, 3)),
});

const principals = ['*', `${trustDomain}/ns/a/sa/x`, `${trustDomain}/ns/b/*`, '*/sa/y'];
const source = optional({
  principals: some(principals),
  notPrincipals: some(principals),
  namespaces: some(['a', '*']),
  ipBlocks: some(cidrs),
  notIpBlocks: some(cidrs),
});
const portList = fc.array(fc.integer({ min: 1, max: 8 }), { minLength: 1, maxLength: 3 });
const condition = fc.oneof(
  fc.record({ key: fc.constant('destination.port' as const), values: fc.constant(['3', '4']) }),
  fc.record({ key: fc.constant('source.ip' as const), notValues: some(cidrs) }),
  fc.record({ key: fc.constant('destination.ip' as const), values: some(cidrs) }),
);
const policy = fc.record({
  namespace: fc.constantFrom('a', 'b', 'root'),
  action: fc.constantFrom('ALLOW', 'DENY'),
  selector: someLabels,
  rules: fc.array(
    fc.record(
      {
        from: fc.array(source, { maxLength: 2 }),
        to: fc.array(optional({ ports: portList, notPorts: portList }), { maxLength: 2 }),
        when: fc.array(condition, { minLength: 1, maxLength: 1 }),
      },
      { requiredKeys: ['from', 'to'] },
    ),
    { maxLength: 2 },
  ),
});

const requirement: fc.Arbitrary<LabelRequirement> = fc.record({
  key: fc.constantFrom('app', 'tier'),
  operator: fc.constantFrom('In', 'NotIn', 'Exists', 'DoesNotExist'),
  values: fc.constant(['1']),
});
const requirements = fc.array(requirement, { maxLength: 1 });
const networkPeer: fc.Arbitrary<NetworkPolicyPeer> = fc.oneof(
  fc.record({ kind: fc.constant('pods'), namespaceSelector: fc.option(requirements), podSelector: requirements }),
  fc.record({ kind: fc.constant('block'), cidr: fc.constantFrom(...cidrs), except: fc.constant([]) }),
);
const networkRules: fc.Arbitrary<CompiledNetworkPolicy['ingress']> = fc.option(
  fc.array(fc.record({ peers: fc.array(networkPeer, { maxLength: 2 }), ports: fc.array(rulePort, { maxLength: 1 }) }), {
    maxLength: 2,
  }),
);
const networkPolicy: fc.Arbitrary<Omit<CompiledNetworkPolicy, 'name'>> = fc.record({
  namespace: fc.constantFrom(...namespaces),
  podSelector: requirements,
  ingress: networkRules,
  egress: networkRules,
});

export const snapshots: fc.Arbitrary<Snapshot> = fc
  .record({
    rules: fc.array(rule, { maxLength: 6 }),
    policies: fc.oneof(fc.constant([]), fc.array(policy, { maxLength: 2 })),
    networkPolicies: fc.oneof(
      { arbitrary: fc.array(networkPolicy, { maxLength: 0 }), weight: 1 },
      { arbitrary: fc.array(networkPolicy, { maxLength: 2 }), weight: 1 },
    ),
    mesh: fc.record({
      defaultAction: fc.constantFrom('allow', 'audit', 'deny'),
      outbound: fc.constantFrom('allow', 'audit', 'deny'),
      mtls: fc.constantFrom('STRICT', 'PERMISSIVE'),
    }),
    peerAuthentications: fc.array<CompiledPeerAuthentication>(
      fc.record<CompiledPeerAuthentication>({
        namespace: fc.constantFrom('a', 'b', 'root'),
        name: fc.constant('pa'),
        selector: someLabels,
        mode: fc.constantFrom('STRICT', 'PERMISSIVE', null),
        ports: fc.constantFrom({}, { 5: 'STRICT' }, { 6: 'PERMISSIVE' }),
      }),
      { maxLength: 1 },
    ),
    externals: fc.constantFrom(
      [],
      ...['root/ext', 'a/ext'].map(
        (name) => [{ name, hosts: ['x.example'], cidrs: ['192.0.2.0/24'], ports: [[2, 3]] }] as const,
      ),
    ),
    namespaceLabels: labels,
    clusterPolicies: fc.oneof({ arbitrary: fc.constant([]), weight: 2 }, { arbitrary: clusterPolicies, weight: 1 }),
  })
  .map(({ networkPolicies, peerAuthentications, externals, namespaceLabels, clusterPolicies, ...rest }): Snapshot => {
    const snapshot = snapshotOf(rest);
    return {
      ...snapshot,
      rules: inOrder(snapshot.rules),
      networkPolicies: networkPolicies.map((part, index) => ({ ...part, name: `np${index}` })),
      // Ports are for workloads that a selector chooses, as in Istio.
      peerAuthentications: peerAuthentications.map((part) =>
        Object.keys(part.selector).length === 0 ? { ...part, ports: {} } : part,
      ),
      externals,
      namespaces: { a: namespaceLabels },
      clusterPolicies,
    };
  });

function inOrder(rules: Snapshot['rules']): Snapshot['rules'] {
  const order = ['platform', 'team', 'baseline'];
  return [...rules].sort((a, b) => order.indexOf(a.tier) - order.indexOf(b.tier) || a.priority - b.priority);
}

const entry: fc.Arbitrary<Omit<WorkloadEntry, 'name' | 'namespace'>> = fc
  .record({
    serviceAccount: fc.constantFrom(...names),
    labels: someLabels,
    node: fc.constantFrom(nodeNamed('n1'), nodeNamed('n2'), null),
    ports: fc.constantFrom({}, { http: 2 }, { http: 4, db: 7 }, { db: 4 }),
  })
  .map((init) => workloadEntry('a/x', [], init));

/** Workloads with one to three addresses; every name is registered. */
export const registries: fc.Arbitrary<readonly WorkloadEntry[]> = fc
  .tuple(...fullNames.map(() => entry))
  .map((entries) =>
    entries.map((init, index) => {
      const name = fullNames[index] ?? '';
      const addresses = [
        `10.${index < 2 ? 0 : 200}.0.${index + 2}`,
        ...(index % 2 === 0 ? [] : [`192.0.2.${index}`, `fd00::${index + 2}`]),
      ];
      return workloadEntry(name, addresses, init);
    }),
  );

export const clocks = fc.integer({ min: 0, max: 3 }).map((now) => ({ nowMs: () => now }));

/** Every end that there is in such a world: workloads at their addresses, and some addresses outside. */
export function endsOf({ entries }: RuleSet): MeshParty[] {
  const workloads = entries.flatMap((entry) =>
    entry.kind === 'workload' ? entry.addresses.map((address) => workloadParty(entry, address)) : [],
  );
  return [...workloads, ...outsideAddresses.map((address) => externalParty(address))];
}
