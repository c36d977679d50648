import * as fc from 'fast-check';
import type { Connection, Party } from '../../../shared/policy/connection.js';
import type { PeerMatch, Snapshot } from '../../../shared/policy/snapshot.js';
import { external, meshed, snapshotOf, trustDomain } from './policy-fixture.js';

/** Random rules and connections for the property tests. */
// A small world, so that random rules and random connections meet often.
export const namespaces = ['a', 'b'];
const names = ['x', 'y'];
const cidrs = ['10.0.0.0/8', '10.0.0.0/9', '10.128.0.0/9', '10.0.0.1', '192.0.2.0/24', '0.0.0.0/0'];
const addresses = ['10.0.0.1', '10.0.0.2', '10.200.0.1', '192.0.2.7'];

const some = <T>(values: readonly T[]) => fc.subarray([...values], { minLength: 1 });
export const namespacedNames = namespaces.flatMap((namespace) => names.map((name) => `${namespace}/${name}`));
export const labels = fc.dictionary(fc.constantFrom('app', 'tier'), fc.constantFrom('1', '2'), {
  minKeys: 1,
  maxKeys: 2,
});

function optional<T extends Record<string, fc.Arbitrary<unknown>>>(model: T) {
  return fc.record(model, { requiredKeys: [] });
}

export const peerMatch = optional({
  namespaces: some(namespaces),
  labels,
  serviceAccounts: some(namespacedNames),
  workloads: some(namespacedNames),
  nodes: some(['n1', 'n2']),
  namespaceLabels: fc.constantFrom({ team: 'red' }, { 'kubernetes.io/metadata.name': 'b' }),
  external: fc.constant(true as const),
  unauthenticated: fc.constant(true as const),
}).chain((match) =>
  fc
    .option(fc.record({ cidrs: some(cidrs), exceptCidrs: some(cidrs.slice(0, 5)) }, { requiredKeys: ['cidrs'] }))
    .map((networks): PeerMatch => sparse({ ...match, ...networks })),
);

/** At most two fields: with more, nothing would match. */
function sparse(match: PeerMatch): PeerMatch {
  const kept = Object.entries(match).slice(-2);
  return Object.fromEntries(kept);
}

export const party: fc.Arbitrary<Party> = fc
  .record({
    name: fc.constantFrom(...namespacedNames),
    address: fc.constantFrom(...addresses),
    serviceAccount: fc.constantFrom(...names),
    labels: fc.oneof(labels, fc.constant({})),
    node: fc.constantFrom('n1', 'n2', null),
    ports: fc.constantFrom(undefined, {}, { http: 1 }, { http: 3, db: 4 }, { db: 2 }),
    kind: fc.constantFrom('meshed', 'unproved', 'external'),
  })
  .map(({ name, address, kind, ports: named, ...workload }): Party => {
    const rest = { ...workload, ...(named === undefined ? {} : { ports: named }) };
    if (kind === 'external') return external(address);
    const known = meshed(name, address, rest);
    return kind === 'meshed' ? known : { ...known, identity: null };
  });

export const connection: fc.Arbitrary<Connection> = fc.record({
  source: party,
  destination: party,
  port: fc.integer({ min: 1, max: 6 }),
});

const portRange = fc
  .tuple(fc.integer({ min: 1, max: 6 }), fc.integer({ min: 0, max: 2 }))
  .map(([first, more]) => [first, first + more] as const);
/** A range, or the name of a port. */
const rulePort = fc.oneof({ weight: 3, arbitrary: portRange }, fc.constantFrom('http', 'db'));

export const rule = fc.record({
  tier: fc.constantFrom('platform', 'team', 'baseline'),
  action: fc.constantFrom('allow', 'deny', 'pass'),
  mode: fc.constantFrom('enforce', 'enforce', 'audit'),
  from: fc.array(peerMatch, { maxLength: 2 }),
  to: fc.array(peerMatch, { maxLength: 2 }),
  ports: fc.array(rulePort, { maxLength: 2 }),
  rollout: fc.constantFrom(0, 50, 100, 100, 100),
  validFromMs: fc.constantFrom(null, null, 10, 20),
  expiresAtMs: fc.constantFrom(null, null, 10, 20),
});

const principals = ['*', `${trustDomain}/ns/a/sa/x`, `${trustDomain}/ns/b/*`, '*/sa/y', `${trustDomain}/ns/b/sa/x`];
const source = optional({
  principals: some(principals),
  notPrincipals: some(principals),
  serviceAccounts: some(namespacedNames),
  notServiceAccounts: some(namespacedNames),
  namespaces: some(['a', 'b', '*']),
  notNamespaces: some(['a', '*b']),
  trustDomains: some([trustDomain, 'other.*']),
  notTrustDomains: some([trustDomain, '*.other']),
  ipBlocks: some(cidrs),
  notIpBlocks: some(cidrs),
});
const ports = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 3 });
const condition = fc
  .oneof(
    fc.record({ key: fc.constantFrom('source.ip', 'destination.ip'), listed: some(cidrs) }),
    fc.record({ key: fc.constant('source.namespace'), listed: some(['a', '*b']) }),
    fc.record({ key: fc.constant('source.principal'), listed: some(principals) }),
    fc.record({ key: fc.constant('source.serviceAccount'), listed: some(namespacedNames) }),
    fc.record({ key: fc.constant('source.trustDomain'), listed: some([trustDomain, 'other.*']) }),
    fc.record({ key: fc.constant('destination.port'), listed: some(['1', '2', '3']) }),
  )
  .chain(({ key, listed }) =>
    fc.boolean().map((isNot) => ({ key, ...(isNot ? { notValues: listed } : { values: listed }) })),
  );
const policy = fc.record({
  namespace: fc.constantFrom('a', 'b', 'root'),
  action: fc.constantFrom('ALLOW', 'DENY'),
  selector: fc.oneof(labels, fc.constant({})),
  rules: fc.array(
    fc.record({
      from: fc.array(source, { maxLength: 2 }),
      to: fc.array(optional({ ports, notPorts: ports }), { maxLength: 2 }),
      when: fc.array(condition, { maxLength: 1 }),
    }),
    { maxLength: 2 },
  ),
});

const requirement = fc.record({
  key: fc.constantFrom('app', 'tier'),
  operator: fc.constantFrom('In', 'NotIn', 'Exists', 'DoesNotExist'),
  values: some(['1', '2']),
});
const requirements = fc.array(requirement, { maxLength: 1 });
const namespaceRequirements = fc.constantFrom(
  null,
  [],
  [{ key: 'team', operator: 'In' as const, values: ['red'] }],
  [{ key: 'team', operator: 'DoesNotExist' as const, values: [] }],
);
const networkPeer = fc.oneof(
  fc.record({
    kind: fc.constant('pods' as const),
    namespaceSelector: namespaceRequirements,
    podSelector: requirements,
  }),
  fc.record({ kind: fc.constant('block' as const), cidr: fc.constantFrom(...cidrs), except: fc.subarray(cidrs) }),
);
const networkRules = fc.option(
  fc.array(
    fc.record({
      peers: fc.array(networkPeer, { maxLength: 2 }),
      ports: fc.array(rulePort, { maxLength: 1 }),
    }),
    { maxLength: 2 },
  ),
);
const networkPolicy = fc.record({
  namespace: fc.constantFrom(...namespaces),
  name: fc.constant('n'),
  podSelector: requirements,
  ingress: networkRules,
  egress: networkRules,
});
export const externals = fc.array(
  fc.record({
    name: fc.constantFrom('root/e', 'root/e', 'a/e'),
    hosts: fc.constant([]),
    cidrs: some(cidrs.slice(0, 5)),
    ports: fc.array(portRange, { maxLength: 1 }),
  }),
  { maxLength: 1 },
);

export const snapshot: fc.Arbitrary<Snapshot> = fc
  .record({
    rules: fc.array(rule, { maxLength: 6 }),
    policies: fc.array(policy, { maxLength: 3 }),
    mesh: fc.record({
      defaultAction: fc.constantFrom('allow', 'audit', 'deny'),
      outbound: fc.constantFrom('allow', 'audit', 'deny'),
    }),
    rest: fc.record({
      networkPolicies: fc.array(networkPolicy, { maxLength: 2 }),
      externals,
      namespaces: fc.constantFrom({}, { a: { team: 'red' } }),
    }),
  })
  .map(snapshotOf);

/** Many policies of few namespaces, and hardly a rule before them: what each is about must be told apart. */
export const policySnapshot: fc.Arbitrary<Snapshot> = fc
  .record({
    rules: fc.array(rule, { maxLength: 1 }),
    policies: fc.array(policy, { minLength: 5, maxLength: 20 }),
    rest: fc.record({
      networkPolicies: fc.array(networkPolicy, { maxLength: 12 }),
      externals,
      namespaces: fc.constantFrom({}, { a: { team: 'red' } }),
    }),
  })
  .map(({ rest, ...documents }) => {
    const networkPolicies = rest.networkPolicies.map((each, index) => ({ ...each, name: `n${index}` }));
    return snapshotOf({ ...documents, rest: { ...rest, networkPolicies } });
  });

export const now = fc.constantFrom(5, 15, 25);
