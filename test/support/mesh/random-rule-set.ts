import type { RandomChoices } from './random-choices.js';
import { authorizationPolicy, documents, meshOf, segmentationRule } from './rule-world.js';
import { partner, whyPorts } from './why-world.js';

type List<T> = readonly [T, ...T[]];

/** What every set has, in turn; the rest of a set is chance. */
const settings: List<string> = [
  '{ defaultAction: allow, outbound: deny, mtls: PERMISSIVE }',
  '{ defaultAction: deny, outbound: allow, mtls: STRICT }',
  '{ defaultAction: audit, outbound: audit, mtls: PERMISSIVE }',
  '{ defaultAction: deny, outbound: deny, mtls: PERMISSIVE }',
];

const fixed = `
apiVersion: culvert.dev/v1
kind: Segment
metadata: { name: some }
spec: { members: [{ workload: shop/cache }, { labels: { app: visitor } }, { cidr: "fd00:c0::/112" }] }
---
apiVersion: culvert.dev/v1
kind: Segment
metadata: { name: more }
spec: { members: [{ segment: some }, { serviceAccount: shop/api }, { cidr: 198.18.0.201/32 }] }
---
apiVersion: v1
kind: Namespace
metadata: { name: shop, labels: { team: red } }
---
apiVersion: v1
kind: Namespace
metadata: { name: ops, labels: { team: red, zone: high } }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: partner, namespace: istio-system }
spec:
  hosts: [partner.example]
  addresses: [${partner.address}, "${partner.addressV6}"]
  ports: [${partner.ports.map((number) => `{ number: ${number} }`).join(', ')}]
`;

/** Each kind of peer; every set has every one of these in some rule, and the one that only dials. */
const peers: List<string> = [
  '{ segment: some }',
  '{ segment: more }',
  '{ namespace: shop }',
  '{ namespace: guest }',
  '{ namespaceLabels: { team: red } }',
  '{ namespaceLabels: { zone: high } }',
  '{ labels: { tier: front } }',
  '{ labels: { tier: back } }',
  '{ labels: { app: db }, namespace: shop }',
  '{ serviceAccount: shop/web }',
  '{ serviceAccount: ops/vault }',
  '{ workload: shop/api }',
  '{ workload: shop/legacy }',
  '{ service: shop/store }',
  '{ service: istio-system/partner }',
  '{ node: node1 }',
  '{ node: node2, namespace: shop }',
  '{ cidr: 198.18.0.0/24 }',
  '{ cidr: 198.18.12.0/24, except: [198.18.12.3] }',
  '{ cidr: "fd00:c0:2::/64", except: ["fd00:c0:2::2"] }',
  '{ external: true }',
];
const unauthenticated = '{ unauthenticated: true }';

const portLists: List<string> = ['5432', '6379', '8000', '"8000-8001"', '"5000-7000"'];

/**
 * A set with every kind of document and of peer, as YAML. The sets of two numbers have documents of the same names, so
 * that applying one replaces the other. What expires did so before `nowMs`.
 */
export function randomRuleSet(random: RandomChoices, number: number, nowMs: number): string {
  const rules = randomRules(random, nowMs);
  const authorizations = ['shop', 'ops', 'istio-system'].flatMap((namespace) =>
    ['DENY', 'ALLOW'].map((action) => randomAuthorization(random, namespace, action)),
  );
  return documents(
    meshOf(settings[number % settings.length] ?? settings[0]),
    fixed,
    ...rules,
    ...authorizations,
    randomNetworkPolicy(random, 'shop', 'back', '{ matchLabels: { tier: back } }', ['Ingress']),
    randomNetworkPolicy(random, 'shop', 'front', frontPods, ['Egress']),
    randomNetworkPolicy(random, 'ops', 'both', '{}', ['Ingress', 'Egress']),
    ...randomPeerAuthentications(random),
  );
}

function randomRules(random: RandomChoices, nowMs: number): string[] {
  // Each kind once at least, in `from` or in `to`; some rules name another on the other side.
  return random.shuffled([...peers, unauthenticated]).map((peer, index) => {
    const other = random.isLikely(0.6) ? `[${random.some(peers, 2).join(', ')}]` : null;
    const isFrom = peer === unauthenticated || random.isLikely(0.5);
    const [from, to] = isFrom ? [`[${peer}]`, other] : [other, `[${peer}]`];
    const fields = [
      `tier: ${random.pick(['platform', 'team', 'team', 'baseline', 'baseline'])}`,
      // Different ones, so that no two rules are ambiguous.
      `priority: ${index}`,
      `action: ${random.pick(['allow', 'allow', 'deny', 'deny', 'pass'])}`,
      `mode: ${random.pick(['enforce', 'enforce', 'enforce', 'audit', 'off'])}`,
      ...(from === null ? [] : [`from: ${from}`]),
      ...(to === null ? [] : [`to: ${to}`]),
      ...(random.isLikely(0.8) ? [`ports: [${random.some(portLists, 2).join(', ')}]`] : []),
      ...(random.isLikely(0.2) ? ['rollout: 50'] : []),
      ...(random.isLikely(0.3) ? [`onChange: ${random.pick(['keep', 'drain 1h'])}`] : []),
      ...randomValidity(random, nowMs),
    ];
    return segmentationRule(`r${index}`, `{ ${fields.join(', ')} }`);
  });
}

/** Far from the present, so that nothing begins or ends while connections are made. */
function randomValidity(random: RandomChoices, nowMs: number): string[] {
  const at = (ms: number): string => `"${new Date(nowMs + ms).toISOString()}"`;
  const hourMs = 3_600_000;
  if (random.isLikely(0.15)) return [`expiresAt: ${at(-hourMs)}`];
  if (random.isLikely(0.1)) return [`validFrom: ${at(hourMs)}`];
  return random.isLikely(0.1) ? [`validFrom: ${at(-hourMs)}`, `expiresAt: ${at(hourMs)}`] : [];
}

const principals: List<string> = ['"cluster.local/ns/shop/*"', '"*/sa/web"', '"culvert.local/ns/ops/sa/vault"', '"*"'];
const blocks: List<string> = ['198.18.11.0/24', '198.18.0.0/24', '"fd00:c0::/48"', '198.18.12.2'];
const namespaceNames: List<string> = ['"guest"', '"ops"', '"sh*"'];
const sources: List<readonly [field: string, values: List<string>]> = [
  ['principals', principals],
  ['notPrincipals', principals],
  ['namespaces', namespaceNames],
  ['notNamespaces', namespaceNames],
  ['serviceAccounts', ['shop/web', 'shop/api', 'guest/default']],
  ['notServiceAccounts', ['shop/web', 'shop/db', 'ops/vault']],
  ['ipBlocks', blocks],
  ['notIpBlocks', blocks],
];

const listOf = (random: RandomChoices, values: List<string>): string => `[${random.some(values, 2).join(', ')}]`;

function randomAuthorization(random: RandomChoices, namespace: string, action: string): string {
  const [field, values] = random.pick(sources);
  const from = `from: [{ source: { ${field}: ${listOf(random, values)} } }]`;
  const to = `to: [{ operation: { ${random.pick(['ports', 'notPorts'])}: ["${random.pick(whyPorts)}"] } }]`;
  const when = `when: [{ key: source.namespace, ${random.pick(['values', 'notValues'])}: ["shop"] }]`;
  const rule = [from, to, ...(random.isLikely(0.3) ? [when] : [])].join(', ');
  const labels = namespace === 'istio-system' ? '{ app: vault }' : random.pick(['{ tier: back }', '{ app: api }', '']);
  const selector = labels === '' ? '' : `selector: { matchLabels: ${labels} }, `;
  return authorizationPolicy(
    namespace,
    `p-${action.toLowerCase()}`,
    `{ action: ${action}, ${selector}rules: [{ ${rule} }] }`,
  );
}

const frontPods = '{ matchExpressions: [{ key: tier, operator: In, values: [front] }] }';
const networkPeers: List<string> = [
  '{ podSelector: { matchLabels: { app: web } } }',
  '{ podSelector: {} }',
  '{ namespaceSelector: { matchLabels: { team: red } } }',
  '{ namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: guest } }, podSelector: {} }',
  '{ ipBlock: { cidr: 198.18.0.0/16, except: [198.18.12.0/24] } }',
  '{ ipBlock: { cidr: "fd00:c0::/32", except: ["fd00:c0:1::/64"] } }',
];

function randomNetworkPolicy(
  random: RandomChoices,
  namespace: string,
  name: string,
  podSelector: string,
  types: readonly string[],
): string {
  const rule = (side: string): string => {
    const ports = random.isLikely(0.6)
      ? `, ports: [{ port: ${random.pick(whyPorts)} }, { port: 8000, endPort: 8001 }]`
      : '';
    return `[{ ${side}: ${listOf(random, networkPeers)}${ports} }]`;
  };
  const directions = types.map((type) => (type === 'Ingress' ? `ingress: ${rule('from')}` : `egress: ${rule('to')}`));
  return `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: { name: ${name}, namespace: ${namespace} }
spec: { podSelector: ${podSelector}, policyTypes: [${types.join(', ')}], ${directions.join(', ')} }
`;
}

/** For the mesh, a namespace, a workload and its ports. */
function randomPeerAuthentications(random: RandomChoices): string[] {
  const mode = (): string => `{ mode: ${random.pick(['STRICT', 'PERMISSIVE', 'UNSET'])} }`;
  const document = (namespace: string, name: string, spec: string): string => `
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: ${name}, namespace: ${namespace} }
spec: ${spec}
`;
  const ofPort = `portLevelMtls: { ${random.pick(whyPorts)}: ${mode()} }`;
  return [
    document('istio-system', 'mesh', '{ mtls: { mode: UNSET } }'),
    document('ops', 'namespace', `{ mtls: ${mode()} }`),
    document('shop', 'workload', `{ selector: { matchLabels: { app: db } }, mtls: ${mode()}, ${ofPort} }`),
  ];
}
